package infer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/anchorhold/anchorhold/runtime/model"
	"github.com/anchorhold/anchorhold/runtime/weights"
)

// sequence is one answer under way. The scheduler owns it, but for tokens,
// which it sends and the caller receives, and cancelled, which the caller sets.
// reason and err are valid once tokens is closed.
type sequence struct {
	owner     string // who may share its prefix
	reused    int    // tokens of the prompt that another sequence left in the cache
	guesses   guesses
	pending   []int32 // tokens to feed: the rest of the prompt, then the last choice
	given     []int32 // rest of an answer that is only scored: pending ends with all but its last
	position  int     // of pending[0]
	most      int     // tokens of prompt and answer, which it has pages for before it begins; guesses are among them
	past      bool    // it began before one that waited for pages
	passed    int     // how many did so while it waited
	last      [1]int32
	left      int // tokens that may still be chosen
	choose    choice
	waiting   chan struct{} // closed once what the sequence sits out passes for is done; else nil
	again     bool          // it waits for a mask: its last token goes through the model again
	scored    bool          // with top likeliest tokens
	top       int
	begun     chan struct{} // closed once there is tokens
	tokens    chan chosen   // room for the whole answer: the scheduler never waits. While a sequence waits it takes none
	cancelled atomic.Bool
	reason    string
	err       error
}

func newSequence(req Request, limit int) *sequence {
	pending := append([]int32(nil), req.Prompt...)
	if n := len(req.Given); n > 0 {
		pending = append(pending, req.Given[:n-1]...)
	}
	return &sequence{owner: req.Owner, pending: pending, given: req.Given, left: limit, most: len(req.Prompt) + limit, choose: newChoice(req), scored: req.Observe != nil, top: req.Top, begun: make(chan struct{})}
}

// chosen is a token of an answer, scored if the request asks for it.
type chosen struct {
	id     int32
	scored *Scored
}

// begin makes the sequence's channel.
func (s *sequence) begin() {
	s.tokens = make(chan chosen, s.left)
	close(s.begun)
}

// end closes the sequence's channel, once.
func (s *sequence) end(reason string, err error) {
	s.reason, s.err = reason, err
	close(s.tokens)
}

// schedule runs steps for as long as there are sequences, and waits when there
// are none. Weights that cannot be read end the sequences, and the next one tries again: the disk may be
// back, or the file. It ends when the engine or the weights are closed.
func (e *Engine) schedule() {
	defer close(e.done)
	defer e.beside.Wait()
	for {
		if !e.admit() {
			e.endAll(ErrClosed)
			e.endWaiting(ErrClosed)
			return
		}
		if err := e.step(); err != nil {
			err = fmt.Errorf("infer: %w", err)
			e.endAll(err)
			if errors.Is(err, weights.ErrClosed) {
				e.fatal = err
				e.endWaiting(err)
				return
			}
		}
	}
}

func (e *Engine) endAll(err error) {
	for slot, s := range e.slots {
		if s != nil {
			e.free(slot, "", err)
		}
	}
}

// endWaiting ends the sequences that wait for pages.
func (e *Engine) endWaiting(err error) {
	for _, s := range e.line {
		s.begin()
		s.end("", err)
	}
	e.line = nil
}

// free ends the sequence of a slot. What the cache keeps of it is wiped unless its owner may go on
// behind it; then it is wiped before another sequence takes its place. The other pages are free from now on.
func (e *Engine) free(slot int, reason string, err error) {
	s := e.slots[slot]
	s.settle()
	e.slots[slot] = nil
	e.prefixes.cut(slot, s.position)
	if err != nil || !e.prefixes.leave(slot) {
		e.prefixes.forget(slot)
		e.cache.Keep(slot, 0)
	} else {
		e.cache.Keep(slot, s.position)
	}
	s.end(reason, err)
}

// admit frees the slots of cancelled sequences and takes new ones while there are slots and pages for
// them, whose turn it is first: one that waits for pages has the next ones before any that would come behind it and leave it no room
// (see overtake). With no sequence at all it waits. It returns false at the end.
func (e *Engine) admit() bool {
	for slot, s := range e.slots {
		if s != nil && s.cancelled.Load() {
			e.free(slot, "", nil)
		}
	}
	for e.receive() && e.active() < len(e.slots) && len(e.line) > 0 {
		s := e.turn(func(*sequence) bool { return true })
		if e.begin(s) {
			e.serve(s)
			continue
		}
		if e.active() > 0 && e.overtake(s) {
			continue
		}
		if e.active() > 0 {
			break
		}
		select { // until the pages are clear that nobody has
		case <-e.ready:
		case <-e.quit:
			return false
		}
	}
	select {
	case <-e.quit:
		return false
	default:
		return true
	}
}

// receive takes in the sequences that were submitted, and lets those go whose callers left while they waited. If there is none at
// all, it waits for one; it returns false at the end.
func (e *Engine) receive() bool {
	e.line = slices.DeleteFunc(e.line, func(s *sequence) bool { return s.cancelled.Load() })
	for {
		if e.active()+len(e.line) == 0 {
			select {
			case s := <-e.submit:
				e.line = append(e.line, s)
			case <-e.quit:
				return false
			}
		}
		select {
		case s := <-e.submit:
			e.line = append(e.line, s)
		case <-e.quit:
			return false
		default:
			return true
		}
	}
}

// turn is the sequence that is next of those that wait and may begin, or nil: owners take turns, so that one with many long ones keeps
// no other waiting for all of them; of an owner's, the first.
func (e *Engine) turn(may func(*sequence) bool) (next *sequence) {
	for _, s := range e.line {
		if may(s) && (next == nil || e.served[s.owner] < e.served[next.owner]) {
			next = s
		}
	}
	return next
}

// overtake begins a sequence before the one whose turn it is and for which there are no pages yet: one that leaves room for it, together
// with all at work that overtook. The one that waits therefore has its pages at the latest when those before it have ended. It is overtaken
// as many times as there are slots, or short ones could keep it waiting for the longest of those.
func (e *Engine) overtake(waits *sequence) bool {
	if waits.passed == len(e.slots) {
		return false
	}
	free, beside := e.cache.Free(), e.cache.Pages(e.size.Positions)-e.cache.Pages(waits.most)
	for slot, s := range e.slots {
		switch {
		case s == nil:
			free += e.cache.Held(slot)
		case s.past:
			beside -= e.cache.Pages(s.most)
		}
	}
	s := e.turn(func(s *sequence) bool { return s != waits && e.cache.Pages(s.most) <= min(free, beside) })
	if s == nil || !e.begin(s) {
		return false
	}
	s.past = true
	waits.passed++
	e.serve(s)
	return true
}

// serve takes a sequence that has begun out of the line.
func (e *Engine) serve(s *sequence) {
	e.line = slices.DeleteFunc(e.line, func(o *sequence) bool { return o == s })
	e.clock++
	e.served[s.owner] = e.clock
	if len(e.line) == 0 {
		clear(e.served) // or they would grow with all that ever came
	}
}

// step runs one batch: the last choice of every sequence that answers, and as
// much of the prompts as there is room for.
func (e *Engine) step() error {
	e.batch = e.batch[:0]
	e.rejoin()
	var asked [model.MaxBatch]int // slots whose logits come back, in order
	wanted := 0
	room := cap(e.batch)
	active, alone := 0, -1 // slot of a single sequence that answers
	for slot, s := range e.slots {
		if s == nil {
			continue
		}
		active++
		if s.waiting != nil {
			continue
		}
		if len(s.pending) == 1 {
			room-- // an answer goes before any prompt
			alone = slot
		}
	}
	if active > 1 { // guesses would take the place of tokens that are certain
		alone = -1
	}
	spare := outputs(len(e.slots)) - active // each has one for certain
	first := e.first                        // prompts that one pass has no room for take turns
	for i := range e.slots {
		slot := (first + i) % len(e.slots)
		s := e.slots[slot]
		if s == nil || s.waiting != nil {
			continue
		}
		n := 1
		if len(s.pending) > 1 {
			n = min(len(s.pending), room)
		}
		sure := len(s.pending) - max(len(s.given), 1) // tokens whose logits nobody wants
		if n > sure+1+spare {
			n = sure + 1 + spare
		}
		spare -= max(n-sure-1, 0)
		if len(s.pending) > 1 {
			if e.first == first {
				e.first = (slot + 1) % len(e.slots)
			}
			room -= n
		}
		for i, token := range s.pending[:n] {
			last := i >= sure
			e.batch = append(e.batch, model.Input{Token: token, Slot: slot, Position: s.position + i, Output: last})
			if last {
				asked[wanted] = slot
				wanted++
			}
		}
		s.pending = s.pending[n:]
		s.position += n
	}
	if len(e.batch) == 0 {
		if active > 0 {
			e.idle()
		}
		return nil
	}
	if alone >= 0 {
		e.draft(alone, asked[wanted:])
	}
	rows, err := e.model.Forward(e.cache, e.batch)
	if err != nil {
		return err
	}
	for _, in := range e.batch {
		e.prefixes.put(in.Slot, in.Position, in.Token)
	}
	e.grace = e.patience
	for i, logits := range rows {
		s := e.slots[asked[i]]
		if s == nil {
			continue // it ended before its guesses
		}
		if i > 0 && asked[i] == asked[i-1] && len(s.given) == 0 {
			if !s.guesses.confirm(s.last[0]) {
				continue
			}
			s.position++ // of a guess that came true
		}
		e.choose(asked[i], logits)
	}
	if alone >= 0 && e.slots[alone] != nil {
		e.prefixes.cut(alone, e.slots[alone].position)
	}
	return nil
}

// rejoin takes sequences back into passes whose slot is cleared or whose mask is there.
func (e *Engine) rejoin() {
	for slot, s := range e.slots {
		if s == nil || s.waiting == nil {
			continue
		}
		select {
		case <-s.waiting:
			s.waiting = nil
			if !s.again {
				continue
			}
			s.again = false
			text := e.prefixes.text(slot)
			s.last[0] = int32(binary.LittleEndian.Uint32(text[len(text)-tokenBytes:]))
			s.pending = s.last[:]
			s.position--
		default:
		}
	}
}

// idle waits for the first sequence that can go on, or a new one, if no sequence can.
func (e *Engine) idle() {
	select {
	case <-e.ready:
	case s := <-e.submit:
		e.line = append(e.line, s)
	case <-e.quit:
	}
}

// settle waits until a sequence's slot is cleared.
func (s *sequence) settle() {
	if s.waiting != nil && !s.again {
		<-s.waiting
	}
}

// apart does work of a sequence beside passes, which the sequence sits out until it is done.
func (e *Engine) apart(s *sequence, work func()) (done chan struct{}) {
	done = make(chan struct{})
	s.waiting = done
	e.beside.Go(func() {
		work()
		close(done)
		e.wake()
	})
	return done
}

// wake says that something of beside is done.
func (e *Engine) wake() {
	select {
	case e.ready <- struct{}{}:
	default: // the scheduler will look at all of them
	}
}

// choose takes the next token of a sequence and ends it where it ends.
func (e *Engine) choose(slot int, logits []float32) {
	s := e.slots[slot]
	if len(s.given) > 0 {
		e.scoreGiven(slot, logits)
		return
	}
	token, err := e.pick.next(&s.choose, logits)
	if err == errMask {
		if !e.mask(slot) {
			return
		}
		token, err = e.pick.next(&s.choose, logits)
	}
	if err != nil {
		e.free(slot, "", err)
		return
	}
	next, err := e.told(s, logits, token)
	if err != nil {
		e.free(slot, "", err)
		return
	}
	end := e.tokenizer.IsEnd(token)
	if s.choose.constraint != nil {
		if end, err = s.choose.constraint.take(token); err != nil {
			e.free(slot, "", fmt.Errorf("%w: %w", ErrGrammar, err))
			return
		}
	}
	s.tokens <- next
	s.left--
	switch {
	case end:
		e.free(slot, "stop", nil)
	case s.left == 0:
		e.free(slot, "length", nil)
	default:
		s.last[0] = token
		s.pending = s.last[:]
	}
}

// told is a token as the answer has it, with how likely it was if the request asks for that.
func (e *Engine) told(s *sequence, logits []float32, token int32) (next chosen, err error) {
	next.id = token
	if s.scored {
		next.scored, err = e.pick.score(logits, token, s.top)
	}
	return next, err
}

// scoreGiven goes past the next token of an answer that is only scored, and ends the sequence
// behind the last one.
func (e *Engine) scoreGiven(slot int, logits []float32) {
	s := e.slots[slot]
	next, err := e.told(s, logits, s.given[0])
	if err != nil {
		e.free(slot, "", err)
		return
	}
	s.given = s.given[1:]
	s.tokens <- next
	if s.left--; s.left == 0 {
		e.free(slot, "stop", nil)
	}
}
