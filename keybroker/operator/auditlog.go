package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/audit"
)

const (
	maxKeptCheckpoints = 64
	progressEvery      = time.Second // at most, of a long answer
)

// AuditCheck is what the log is verified against.
type AuditCheck struct {
	// Kept are checkpoints that were kept elsewhere.
	Kept []string `json:"kept,omitempty"`
	// Names are what errors call those; else they are numbered.
	Names []string `json:"names,omitempty"`
}

// AuditArchive says what is archived.
type AuditArchive struct {
	// Keep is how many closed segments stay; at least one.
	Keep int `json:"keep"`
}

// longAnswer is an answer that takes longer than a request may: it says how far it
// is, a line at a time, and each line moves the connection's deadlines.
type longAnswer func(ctx context.Context, progress func(done, total uint64)) (any, error)

// longLine is one line of it. The last has a result or an error.
type longLine struct {
	Done   uint64          `json:"done,omitempty"`
	Total  uint64          `json:"total,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  *Error          `json:"error,omitempty"`
}

// writeLong runs a long answer.
func writeLong(w http.ResponseWriter, r *http.Request, run longAnswer) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	control := http.NewResponseController(w)
	say := func(l longLine) {
		deadline := time.Now().Add(requestDeadline)
		_ = errors.Join(control.SetReadDeadline(deadline), control.SetWriteDeadline(deadline)) // then the first ones hold
		b, _ := json.Marshal(l)                                                                // numbers and what was marshalled before
		_, _ = w.Write(append(b, '\n'))                                                        // the peer may be gone
		_ = control.Flush()
	}
	last := time.Now()
	out, err := run(r.Context(), func(done, total uint64) {
		if now := time.Now(); now.Sub(last) >= progressEvery {
			last = now
			say(longLine{Done: done, Total: total})
		}
	})
	var raw []byte
	if err == nil {
		raw, err = json.Marshal(out)
	}
	if err != nil {
		say(longLine{Error: asError(err)})
		return
	}
	say(longLine{Result: raw})
}

func (r *request) auditShow() (any, error) {
	var f audit.Filter
	if q := r.URL.Query().Get("filter"); q != "" {
		d := json.NewDecoder(strings.NewReader(q))
		d.DisallowUnknownFields()
		if err := d.Decode(&f); err != nil {
			return nil, fmt.Errorf("read filter: %w", err)
		}
	}
	entries, err := audit.Show(r.s.opts.Audit.Dir(), f)
	if entries == nil {
		entries = []audit.Entry{}
	}
	return entries, err
}

// auditVerify reads the whole log; one at a time, for it keeps a processor busy.
func (r *request) auditVerify() (any, error) {
	var c AuditCheck
	if err := r.decode(&c); err != nil {
		return nil, err
	}
	if len(c.Kept) > maxKeptCheckpoints {
		return nil, fmt.Errorf("%d checkpoints at once (at most %d)", len(c.Kept), maxKeptCheckpoints)
	}
	if err := r.readAlone(); err != nil {
		return nil, err
	}
	// What this process knows is the least that its disk must have.
	check := audit.Check{Keys: r.s.opts.AuditKeys, Names: c.Names, Own: r.s.opts.Audit.Latest(), Acknowledged: r.s.opts.Audit.Size()}
	for _, note := range c.Kept {
		check.Kept = append(check.Kept, []byte(note))
	}
	return longAnswer(func(ctx context.Context, progress func(done, total uint64)) (any, error) {
		defer func() { <-r.s.verifying }()
		check.Progress = progress
		return check.Verify(ctx, r.s.opts.Audit.Dir())
	}), nil
}

// readAlone takes the one token for reading the whole log; the caller gives it back.
func (r *request) readAlone() error {
	select {
	case r.s.verifying <- struct{}{}:
		return nil
	default:
		return &Error{http.StatusTooManyRequests, "busy", "the log is being verified; try again when that is done"}
	}
}

func (r *request) auditExplain() (any, error) {
	return audit.Explain(r.s.opts.Audit.Dir(), r.PathValue("id"))
}

// auditProof proves a record against a checkpoint that covers it.
func (r *request) auditProof() (any, error) {
	index, err := strconv.ParseUint(r.PathValue("index"), 10, 64)
	if err != nil {
		return nil, &Error{http.StatusBadRequest, "index", "a record index must be a number"}
	}
	log := r.s.opts.Audit
	c := log.Latest()
	if index >= c.Size {
		if c, err = log.Checkpoint(r.Context()); err != nil {
			return nil, err
		}
	}
	leaf, err := log.Leaf(index)
	if err != nil {
		return nil, err
	}
	proof, err := audit.Prove(log.Dir(), index, c.Size)
	if err != nil {
		return nil, err
	}
	return Inclusion{leaf, proof, c}, nil
}

func (r *request) auditCheckpoint() (any, error) { return r.s.opts.Audit.Checkpoint(r.Context()) }

func (r *request) auditArchive() (any, error) {
	var a AuditArchive
	if err := r.decode(&a); err != nil {
		return nil, err
	}
	if err := r.readAlone(); err != nil { // no segment goes while it is being verified
		return nil, err
	}
	defer func() { <-r.s.verifying }()
	return r.s.opts.Audit.Archive(r.Context(), a.Keep)
}

func (r *request) auditHeal() (any, error) {
	if err := r.s.opts.Audit.Heal(r.Context()); err != nil {
		return nil, err
	}
	return map[string]uint64{"records": r.s.opts.Audit.Size()}, nil
}

// ShowAudit returns the records that the filter selects.
func (c *Client) ShowAudit(ctx context.Context, f audit.Filter) ([]audit.Entry, error) {
	b, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	return get[[]audit.Entry](ctx, c, "/v1/audit/records", url.Values{"filter": {string(b)}})
}

// VerifyAudit has the broker verify its own log, also against checkpoints that
// were kept elsewhere; progress, if there is one, hears how many records of about
// how many were read. Whoever does not trust the broker runs audit.Check on a
// copy of the directory instead.
func (c *Client) VerifyAudit(ctx context.Context, check AuditCheck, progress func(done, total uint64)) (report audit.Report, err error) {
	body, err := json.Marshal(check)
	if err != nil {
		return report, err
	}
	err = c.stream(ctx, "/v1/audit/verify", body, func(lines *json.Decoder) error {
		for {
			var l longLine
			if err := lines.Decode(&l); err != nil {
				return fmt.Errorf("read the broker's answer: %w", err)
			}
			switch {
			case l.Error != nil:
				l.Error.Status = http.StatusConflict
				return l.Error
			case l.Result != nil:
				return json.Unmarshal(l.Result, &report)
			case progress != nil:
				progress(l.Done, l.Total)
			}
		}
	})
	return report, err
}

// stream posts a body and gives the lines of the answer to read.
func (c *Client) stream(ctx context.Context, path string, body []byte, read func(*json.Decoder) error) error {
	answer, err := c.send(ctx, http.MethodPost, path, nil, strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	defer answer.Close()
	return read(json.NewDecoder(io.LimitReader(answer, maxAnswerBytes)))
}

// Explain returns the records that belong to the opaque id of a refusal.
func (c *Client) Explain(ctx context.Context, refusalID string) ([]audit.Entry, error) {
	return get[[]audit.Entry](ctx, c, "/v1/audit/explain/"+strings.ReplaceAll(refusalID, "/", ""), nil)
}

// Prove returns the proof that a record is in the log that a checkpoint signs.
func (c *Client) Prove(ctx context.Context, index uint64) (Inclusion, error) {
	return get[Inclusion](ctx, c, "/v1/audit/proof/"+strconv.FormatUint(index, 10), nil)
}

// Checkpoint has the broker sign its log as it stands.
func (c *Client) Checkpoint(ctx context.Context) (audit.Checkpoint, error) {
	return post[audit.Checkpoint](ctx, c, "/v1/audit/checkpoint", nil, nil)
}

// ArchiveAudit has the broker move closed segments of its log into the log's
// archive directory.
func (c *Client) ArchiveAudit(ctx context.Context, a AuditArchive) (out audit.Archived, err error) {
	return out, c.Do(ctx, "/v1/audit/archive", a, &out)
}

// HealAudit has the broker open its log anew after a failure.
func (c *Client) HealAudit(ctx context.Context) error {
	_, err := post[map[string]uint64](ctx, c, "/v1/audit/heal", nil, nil)
	return err
}
