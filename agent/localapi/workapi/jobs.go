package workapi

import (
	"encoding/json"
	"io"
	"math"
	"net/http"
	"strings"

	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/localapi"
)

// job is a job as its owner sees it: what was submitted is the owner's own and not
// shown.
type job struct {
	jobs.Info
	Job   string `json:"job"`
	Spec  bool   `json:"spec,omitempty"`
	Lease bool   `json:"lease,omitempty"`
	Boot  bool   `json:"boot,omitempty"`
}

func jobView(i jobs.Info) job { return job{Info: i, Job: i.ID.String()} }

// ownJob finds a job of this user; root sees all. Another user's job does not exist
// here.
func (s *Service) ownJob(r *http.Request) (*jobs.Queue, jobs.Info, error) {
	unknown := &localapi.Error{Status: http.StatusNotFound, Type: "invalid_request_error", Param: "id", Code: string(jobs.ReasonUnknown), Message: "this user has no such job"}
	work, err := s.work()
	if err != nil {
		return nil, jobs.Info{}, err
	}
	id, err := jobs.ParseID(r.PathValue("id"))
	if err != nil {
		return nil, jobs.Info{}, unknown
	}
	info, err := work.Queue.Show(id)
	uid := s.UID(r.Context())
	if err != nil || uid != 0 && uid != info.Owner {
		return nil, jobs.Info{}, unknown
	}
	return work.Queue, info, nil
}

// jobsAtOnce is how many jobs of a list are in memory.
const jobsAtOnce = 16

// listJobs sends the list piece by piece, as its reader takes it: of thousands of jobs a
// user who reads nothing, on each of his connections, would hold a copy. What changes
// meanwhile may show.
func (s *Service) listJobs(w http.ResponseWriter, r *http.Request) error {
	work, err := s.work()
	if err != nil {
		return err
	}
	uid := s.UID(r.Context())
	own := func(i *jobs.Info) bool { return uid == 0 || uid == i.Owner }
	w.Header().Set("Content-Type", "application/json")
	sep := `{"object":"list","data":[`
	for before := uint64(math.MaxUint64); ; {
		piece := work.Queue.Page(own, before, jobsAtOnce)
		for _, info := range piece {
			one, err := json.Marshal(jobView(info))
			if err != nil {
				return err
			}
			if _, err := io.WriteString(w, sep+string(one)); err != nil {
				return nil // the reader has gone
			}
			before, sep = info.Seq, ","
		}
		if len(piece) < jobsAtOnce {
			break
		}
	}
	_, _ = io.WriteString(w, strings.TrimSuffix(sep, ",")+"]}")
	return nil
}

func (s *Service) showJob(w http.ResponseWriter, r *http.Request) error {
	_, info, err := s.ownJob(r)
	if err == nil {
		localapi.WriteJSON(w, http.StatusOK, jobView(info))
	}
	return err
}

func (s *Service) cancelJob(w http.ResponseWriter, r *http.Request) error {
	q, info, err := s.ownJob(r)
	if err != nil {
		return err
	}
	if info, err = q.Cancel(info.ID); err == nil {
		localapi.WriteJSON(w, http.StatusOK, jobView(info))
	}
	return err
}

func (s *Service) retryJob(w http.ResponseWriter, r *http.Request) error {
	q, info, err := s.ownJob(r)
	if err != nil {
		return err
	}
	if info, err = q.Retry(info.ID); err == nil {
		localapi.WriteJSON(w, http.StatusOK, jobView(info))
	}
	return err
}
