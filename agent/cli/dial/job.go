package dial

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/anchorhold/anchorhold/agent/jobs"
)

// The words of a job as it is shown.
const (
	jobSummary   = "job      %s\nclass    %s\nstate    %s, try %d\nupdated  %s\n"
	jobProgress  = "progress %s %d of %d\n"
	jobLastError = "last     %s %s: %s\n"
	jobResult    = "result   %s\n"
	jobEnded     = "the job is %s: %s"
)

// AskJob sends a request about a job and returns the state of the job.
func AskJob(ctx context.Context, agent *AgentClient, method, path string) (jobs.Info, error) {
	var info jobs.Info
	resp, err := agent.Do(ctx, method, "/v1/jobs/"+path, nil)
	if err != nil {
		return info, err
	}
	defer resp.Body.Close()
	return info, json.NewDecoder(io.LimitReader(resp.Body, MaxAnswer)).Decode(&info)
}

// PrintJob shows a job to people.
func PrintJob(w io.Writer, i jobs.Info) {
	fmt.Fprintf(w, jobSummary, i.ID, i.Class, i.State, i.Tries, i.Updated.Format(time.RFC3339))
	if i.Progress != nil && i.State == jobs.Leased {
		fmt.Fprintf(w, jobProgress, i.Progress.Phase, i.Progress.Done, i.Progress.Total)
	}
	if i.Detail != "" {
		fmt.Fprintf(w, jobLastError, i.Exit, i.Reason, i.Detail)
	}
	if len(i.Result) > 0 {
		fmt.Fprintf(w, jobResult, i.Result)
	}
}

// WaitJob polls a job until it is over, and tells of each new phase.
func WaitJob(ctx context.Context, agent *AgentClient, id string, told io.Writer) (jobs.Info, error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	phase := ""
	for {
		info, err := AskJob(ctx, agent, http.MethodGet, id)
		if err != nil || info.Final() {
			if err == nil && info.State != jobs.Done {
				err = Refused(fmt.Sprintf(jobEnded, info.State, info.Detail), string(info.Reason))
			}
			return info, err
		}
		if p := info.Progress; p != nil && p.Phase != phase {
			phase = p.Phase
			fmt.Fprintf(told, "%s ...\n", phase)
		}
		select {
		case <-ctx.Done():
			return info, ctx.Err()
		case <-tick.C:
		}
	}
}
