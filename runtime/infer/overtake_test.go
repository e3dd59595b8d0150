package infer

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// line is an engine that computes pass by pass, and notes when requests begin and end.
type line struct {
	*Engine
	source *plain
	group  sync.WaitGroup

	mu           sync.Mutex
	begun, ended []string
}

func (l *line) ask(t *testing.T, name string, prompt, tokens int) {
	l.group.Go(func() {
		_, err := l.Generate(t.Context(), Request{Prompt: slices.Repeat([]int32{1}, prompt), MaxTokens: tokens, Owner: name, Observe: func([]Scored) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			if !slices.Contains(l.begun, name) {
				l.begun = append(l.begun, name)
			}
			return nil
		}}, func(string) error { return nil })
		l.mu.Lock()
		defer l.mu.Unlock()
		l.ended = append(l.ended, name)
		if err != nil {
			t.Error(name, err)
		}
	})
	synctest.Wait()
}

// until has passes computed until a request is in a list.
func (l *line) until(t *testing.T, list *[]string, name string) {
	t.Helper()
	for {
		l.mu.Lock()
		there := slices.Contains(*list, name)
		l.mu.Unlock()
		if there {
			return
		}
		select {
		case l.source.gate <- struct{}{}:
		default:
			t.Fatalf("%s is not there, and nobody computes; %v have begun", name, l.begun)
		}
		synctest.Wait()
	}
}

// finish computes what is left.
func (l *line) finish(t *testing.T, want ...string) {
	close(l.source.gate)
	l.group.Wait()
	if !slices.Equal(l.begun, want) {
		t.Errorf("%v begin in this order, want %v", l.begun, want)
	}
	wholePages(t, l.Engine)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// TestShortOnesOvertakeOneThatWaitsForPages: a request without max_tokens needs pages for a whole context, and kept back all that came
// behind it for as long as it waited. Those that leave it room go first, but no more of them than there are slots.
func TestShortOnesOvertakeOneThatWaitsForPages(t *testing.T) {
	src, f := load(t, smallFile(t))
	synctest.Test(t, func(t *testing.T) {
		l := &line{Engine: scarceEngine(t, src, f, 4, 512, ""), source: src} // eight pages
		src.gate = make(chan struct{})
		l.ask(t, "longest", 10, 240) // four
		l.ask(t, "longer", 10, 150)  // three
		l.until(t, &l.begun, "longer")
		l.ask(t, "waits", 200, 50) // four, of which one is free
		for i := range 4 {         // one each
			name := fmt.Sprint("short", i)
			l.ask(t, name, 3, 3)
			l.until(t, &l.ended, name)
		}
		l.ask(t, "one more", 3, 3)
		l.until(t, &l.ended, "longer")
		l.finish(t, "longest", "longer", "short0", "short1", "short2", "short3", "waits", "one more")
	})
}

// TestWhoOvertakesLeavesRoom for the one that waits, together with those at work that overtook it.
func TestWhoOvertakesLeavesRoom(t *testing.T) {
	src, f := load(t, smallFile(t))
	synctest.Test(t, func(t *testing.T) {
		l := &line{Engine: scarceEngine(t, src, f, 5, 512, ""), source: src} // eight pages
		src.gate = make(chan struct{})
		l.ask(t, "old", 10, 60)    // two
		l.ask(t, "older", 10, 170) // three
		l.until(t, &l.begun, "older")
		l.ask(t, "waits", 200, 50) // four, of which three are free
		l.ask(t, "past", 10, 180)  // these three
		l.until(t, &l.begun, "past")
		l.ask(t, "more", 10, 100) // two: they are free before the four, and would be missing then
		l.until(t, &l.ended, "old")
		l.finish(t, "old", "older", "past", "waits", "more")
	})
}
