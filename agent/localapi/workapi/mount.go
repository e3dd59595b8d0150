package workapi

import (
	"net/http"

	"github.com/anchorhold/anchorhold/agent/fed"
	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/fed/party"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/jobs/spool"
	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Mount serves long work on an API, which says who asks.
func (s *Service) Mount(api *localapi.Server) {
	s.UID = api.UID
	api.Mount(localapi.Mount{Routes: s.Routes(), Status: status, Gauges: s.gauges})
}

// gauges are the queue's figures for /metrics, while it is open.
func (s *Service) gauges() []localapi.Gauge {
	work, err := s.work()
	if err != nil {
		return nil
	}
	counts := work.Queue.Counts() // may wait for the disk
	return []localapi.Gauge{
		{Name: "anchorhold_jobs_queued", Help: "Jobs waiting in the queue.", Value: float64(counts[jobs.Queued])},
		{Name: "anchorhold_jobs_leased", Help: "Jobs being worked on.", Value: float64(counts[jobs.Leased])},
		{Name: "anchorhold_jobs_done", Help: "Finished jobs that are still kept.", Value: float64(counts[jobs.Done])},
		{Name: "anchorhold_jobs_dead", Help: "Jobs that failed for good.", Value: float64(counts[jobs.Dead])},
	}
}

// status is that of a refusal of rounds, of keys of parties, and of jobs. Those without a
// package here are the aggregator's.
func status(reason refusal.Reason) int {
	switch reason {
	case party.ReasonNotYours:
		return http.StatusForbidden
	case fedtask.ReasonVector, fed.ReasonNorm, jobs.ReasonJob, party.ReasonActive:
		return http.StatusUnprocessableEntity
	case fed.ReasonOver, fed.ReasonContributed, jobs.ReasonState, party.ReasonUsed, party.ReasonNotReady, party.ReasonTimeout:
		return http.StatusConflict
	case fed.ReasonNotConfigured, jobs.ReasonUnknown, party.ReasonUnknown, party.ReasonNotNamed, "setup-unknown", "round-unknown", "round-not-closed", "result-not-published":
		return http.StatusNotFound
	case spool.ReasonFull, spool.ReasonDisk:
		return http.StatusInsufficientStorage
	case jobs.ReasonFull, jobs.ReasonOwner, spool.ReasonOwner, spool.ReasonBusy:
		return http.StatusTooManyRequests
	}
	return 0
}
