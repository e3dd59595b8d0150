package score

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"golang.org/x/term"
)

// How often progress is shown: on a terminal, in one line that changes, and elsewhere.
const (
	showOnTerminal = time.Second
	showElsewhere  = 10 * time.Second
)

// progress counts what is done, and shows it.
type progress struct {
	to       io.Writer
	json     bool
	terminal bool
	each     time.Duration
	lines    int
	before   int // lines done by runs before
	began    time.Time

	mu                 sync.Mutex
	finished, failed   int // lines of this run
	prompt, completion int // tokens
}

func newProgress(inv *cli.Invocation, lines, before int) *progress {
	p := &progress{to: inv.Err, json: inv.AsJSON, each: showElsewhere, lines: lines, before: before, began: time.Now()}
	if f, ok := inv.Err.(*os.File); ok && !inv.AsJSON && term.IsTerminal(int(f.Fd())) {
		p.terminal, p.each = true, showOnTerminal
	}
	return p
}

// add counts an answer's tokens.
func (p *progress) add(u *usage) {
	if u == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.prompt += u.PromptTokens
	p.completion += u.CompletionTokens
}

// done counts a line.
func (p *progress) done(failed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.finished++; failed {
		p.failed++
	}
}

// run shows progress until the run ended.
func (p *progress) run(ended <-chan struct{}) {
	tick := time.NewTicker(p.each)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.show()
		case <-ended:
			if p.terminal {
				fmt.Fprintln(p.to)
			}
			return
		}
	}
}

// shown is progress as scripts read it.
type shown struct {
	Done            int     `json:"done"`
	Lines           int     `json:"lines"`
	Failed          int     `json:"failed"`
	TokensPerSecond float64 `json:"tokens_per_second"`
	// SecondsLeft is a guess from this run's lines so far; null before the first.
	SecondsLeft *float64 `json:"seconds_left"`
}

func (p *progress) now(elapsed time.Duration) shown {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := shown{Done: p.before + p.finished, Lines: p.lines, Failed: p.failed}
	if elapsed > 0 {
		s.TokensPerSecond = float64(p.prompt+p.completion) / elapsed.Seconds()
	}
	if p.finished > 0 {
		left := elapsed.Seconds() / float64(p.finished) * float64(p.lines-s.Done)
		s.SecondsLeft = &left
	}
	return s
}

func (p *progress) show() {
	s := p.now(time.Since(p.began))
	if p.json {
		raw, err := json.Marshal(s)
		if err == nil {
			fmt.Fprintf(p.to, "%s\n", raw)
		}
		return
	}
	left := "unknown time"
	if s.SecondsLeft != nil {
		left = (time.Duration(*s.SecondsLeft) * time.Second).String()
	}
	begin, end := "", "\n"
	if p.terminal {
		begin, end = "\r\x1b[K", ""
	}
	fmt.Fprintf(p.to, "%s%d of %d lines, %d failed, %.0f tokens/s, %s left%s", begin, s.Done, s.Lines, s.Failed, s.TokensPerSecond, left, end)
}

// totals are the figures of this run.
func (p *progress) totals() summary {
	elapsed := time.Since(p.began)
	s := p.now(elapsed)
	p.mu.Lock()
	defer p.mu.Unlock()
	return summary{Before: p.before, PromptTokens: p.prompt, CompletionTokens: p.completion, Seconds: elapsed.Seconds(), TokensPerSecond: s.TokensPerSecond}
}
