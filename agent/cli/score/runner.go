package score

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
)

// tries is how often a request is made that the agent fails, without a reason that will pass.
const tries = 3

// The words of requests.
const (
	gaveUp       = "nothing has come back from the agent for %s: %w"
	stayedBusy   = "line %d: the agent has had no place for it, or for another line of this run, for %s: %w"
	lineStopped  = "line %d: %v"
	answerBroken = "the agent's answer cannot be used: %w"
	answerShort  = "the agent's answer has no choices"
)

// runner asks all lines that have no record.
type runner struct {
	*options
	agent    *dial.AgentClient
	model    string
	in       *input
	out      *output
	progress *progress

	pace    pacer
	heard   atomic.Int64 // when the agent last answered, in Unix nanoseconds
	placed  atomic.Int64 // when it last had a place for one of this run's requests
	asking  atomic.Int64 // requests under way
	retried atomic.Int64
}

// run asks until every line has its record, or something ends it.
func (r *runner) run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r.heard.Store(time.Now().UnixNano())
	r.pace.begin(r.parallel)
	var asked, shown sync.WaitGroup
	ended := make(chan struct{})
	shown.Go(func() { r.progress.run(ended) })
	err := r.in.again(ctx, func(n int, line []byte, long bool) error {
		if blank(line) && !long || r.out.has(n) {
			return nil
		}
		a, wrong := r.ask(n, line, long, r.model)
		if wrong != nil {
			return r.keep(record{Line: n, ID: a.id}, wrong)
		}
		if err := r.pace.enter(ctx); err != nil {
			return err
		}
		asked.Go(func() {
			defer r.pace.leave()
			if err := r.one(ctx, a); err != nil {
				stop(err)
			}
		})
		return nil
	})
	if err != nil {
		stop(err)
	}
	asked.Wait()
	close(ended)
	shown.Wait()
	return context.Cause(ctx)
}

func blank(line []byte) bool {
	for _, c := range line {
		if c != ' ' && c != '\t' && c != '\r' {
			return false
		}
	}
	return true
}

// one asks a line until it has its record. It returns what ends the run.
func (r *runner) one(ctx context.Context, a asking) error {
	failed, began := 0, time.Now()
	for wait := time.Duration(0); ; {
		if err := pause(ctx, wait); err != nil {
			return nil // run says why
		}
		r.asking.Add(1)
		got, outcome, after, err := r.request(ctx, a)
		if outcome == answered || outcome == refused || outcome == broken {
			r.placed.Store(time.Now().UnixNano())
		}
		others := r.asking.Add(-1)
		if ctx.Err() != nil {
			return nil
		}
		if outcome != away {
			r.heard.Store(time.Now().UnixNano())
		}
		switch outcome {
		case answered:
			r.pace.good()
			r.progress.add(got.Usage)
			return r.keep(got, nil)
		case refused:
			return r.keep(record{Line: a.line, ID: a.id}, err)
		case busy:
			r.pace.full()
			// The place may be this run's own, for another line.
			if placed := time.Unix(0, r.placed.Load()); others == 0 && time.Since(began) > r.busyPatience && time.Since(placed) > r.busyPatience {
				return cli.Named(reasonBusyAgent, fmt.Errorf(stayedBusy, a.line, r.busyPatience, err))
			}
			wait = min(after, r.busyPatience/4)
		case broken:
			if failed++; failed == tries {
				return r.keep(record{Line: a.line, ID: a.id}, err)
			}
			wait, began = time.Duration(failed)*200*time.Millisecond, time.Now() // it had a place
		case away:
			if silence := time.Since(time.Unix(0, r.heard.Load())); silence > r.patience {
				return fmt.Errorf(gaveUp, r.patience, err)
			}
			wait, began = min(max(2*wait, 100*time.Millisecond), 5*time.Second, r.patience/4), time.Now() // silence has its own limit
		}
		r.retried.Add(1)
	}
}

// stopped is the line at which --strict ended the run. Asked again, it would end the next one too.
type stopped struct {
	line int
	why  error
}

// Error names the line.
func (s *stopped) Error() string { return fmt.Sprintf(lineStopped, s.line, s.why) }

// Unwrap is what was wrong with it.
func (s *stopped) Unwrap() error { return s.why }

// keep writes a record: the line's, or with an error that. With --strict the error ends the run.
func (r *runner) keep(got record, wrong error) error {
	if wrong != nil {
		if r.strict {
			return &stopped{got.Line, wrong}
		}
		failure := cli.FailureOf(wrong)
		got.Error = &failure
	}
	if err := r.out.add(got); err != nil {
		return err
	}
	r.progress.done(wrong != nil)
	return nil
}

func pause(ctx context.Context, wait time.Duration) error {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// outcome is what became of a request.
type outcome int

const (
	answered outcome = iota
	refused          // for good: it is the line's fault
	busy             // there is no place now
	broken           // the agent failed at it
	away             // there is no agent, or nothing is served now
)

// request asks once. Of an agent that is busy it says when to come again.
func (r *runner) request(ctx context.Context, a asking) (got record, o outcome, wait time.Duration, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.timeout, errSilent)
	defer cancel()
	header := http.Header{}
	if r.receipts {
		header.Set("Anchorhold-Receipt", "full")
	}
	resp, err := r.agent.Send(ctx, http.MethodPost, a.path, a.body, header)
	if err != nil {
		return got, away, 0, silent(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		raw, err := io.ReadAll(io.LimitReader(resp.Body, dial.MaxAnswer+1))
		if err != nil { // cut off: the agent stopped
			return got, away, 0, silent(ctx, fmt.Errorf(answerBroken, err))
		}
		if got, err = r.read(a, raw); err != nil { // it is whole, and another may be no better
			return got, broken, 0, err
		}
		return got, answered, 0, nil
	}
	err = dial.AnswerError(resp)
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
		seconds, parsed := strconv.ParseFloat(resp.Header.Get("Retry-After"), 64)
		if parsed != nil || !(seconds >= 0 && seconds <= 60) {
			seconds = 1
		}
		return got, busy, time.Duration(seconds * float64(time.Second)), err
	case http.StatusServiceUnavailable, http.StatusNotFound: // or the model is not there at the moment
		return got, away, 0, err
	case http.StatusInternalServerError, http.StatusGatewayTimeout, http.StatusRequestTimeout:
		return got, broken, 0, err
	}
	return got, refused, 0, err
}

// read makes a record of an answer.
func (r *runner) read(a asking, raw []byte) (record, error) {
	var answer struct {
		Choices json.RawMessage
		Usage   *usage
		Receipt string
		Issued  json.RawMessage `json:"issued_receipt"`
	}
	var err error
	if len(raw) > dial.MaxAnswer {
		err = fmt.Errorf("it has more than %d bytes", dial.MaxAnswer)
	} else {
		err = json.Unmarshal(raw, &answer)
	}
	if err == nil && answer.Choices == nil {
		err = errors.New(answerShort)
	}
	if err != nil {
		return record{}, fmt.Errorf(answerBroken, err)
	}
	got := record{Line: a.line, ID: a.id, Usage: answer.Usage, Receipt: answer.Receipt}
	if r.receipts {
		got.Request, got.Issued = string(a.body), answer.Issued
		if len(answer.Issued) == 0 {
			return got, fmt.Errorf(answerBroken, errors.New("it came without its receipt"))
		}
	}
	if !a.text {
		got.Choices = answer.Choices
		return got, nil
	}
	return got, got.likelihood(answer.Choices, r.receipts)
}

// likelihood adds up what the model finds of each token of a text. The first has none where the
// model puts nothing before a text.
// With a receipt the bytes are kept to which it commits.
func (got *record) likelihood(raw json.RawMessage, receipt bool) error {
	var choices []struct{ Logprobs json.RawMessage }
	if err := json.Unmarshal(raw, &choices); err != nil || len(choices) == 0 {
		return fmt.Errorf(answerBroken, errors.Join(err, errors.New(answerShort)))
	}
	var tokens struct {
		Values []*float64 `json:"token_logprobs"`
	}
	if err := json.Unmarshal(choices[0].Logprobs, &tokens); err != nil {
		return fmt.Errorf(answerBroken, err)
	}
	if receipt {
		got.Output = string(choices[0].Logprobs)
	}
	var sum float64
	for _, v := range tokens.Values {
		if v != nil {
			sum += *v
		}
	}
	sum = math.Round(sum*1e6) / 1e6
	got.Logprob, got.Tokens = &sum, len(tokens.Values)
	return nil
}

// summary is what the run came to so far.
func (r *runner) summary(id string) summary {
	done, failed := r.out.counts()
	s := r.progress.totals()
	s.Model, s.ModelID, s.InputDigest, s.Output = r.model, id, r.in.digest, r.out.path
	s.Lines, s.Done, s.Failed, s.Retried = r.in.lines, done, failed, int(r.retried.Load())
	return s
}

// pacer keeps as many requests under way as the agent takes: one more for each answer until it
// refuses one, and from then on less than that until many answers say otherwise.
type pacer struct {
	mu       sync.Mutex
	most     int
	limit    float64
	met      bool // the agent's limit
	under    int
	released chan struct{}
}

// first is how many requests a run begins with.
const first = 4

func (p *pacer) begin(most int) {
	p.most, p.limit, p.released = most, float64(min(first, most)), make(chan struct{}, 1)
}

// enter waits for a place.
func (p *pacer) enter(ctx context.Context) error {
	for {
		p.mu.Lock()
		free := p.under < int(p.limit)
		if free {
			p.under++
		}
		p.mu.Unlock()
		if free {
			return nil
		}
		select {
		case <-p.released:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (p *pacer) leave() {
	p.mu.Lock()
	p.under--
	p.mu.Unlock()
	select {
	case p.released <- struct{}{}:
	default: // one is enough: there is one who waits
	}
}

// good lets more in. It is called before leave.
func (p *pacer) good() {
	p.mu.Lock()
	defer p.mu.Unlock()
	more := 1.0
	if p.met {
		more = 1 / (4 * p.limit) // one more after some rounds
	}
	p.limit = min(p.limit+more, float64(p.most))
}

// full lets fewer in.
func (p *pacer) full() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.met = true
	p.limit = max(min(p.limit, float64(p.under))-1, 1)
}
