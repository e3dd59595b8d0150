package grammar

import (
	"encoding/binary"
	"errors"
	"slices"
)

// ErrComplex means that following an answer takes more memory or work than one gets.
var ErrComplex = errors.New("grammar: an answer cannot be followed within the limits")

// Limits on one matcher.
const (
	maxNodes  = 1 << 13 // 8 bytes each, and their index
	maxStates = 1 << 10
	maxSteps  = 1 << 17 // that are remembered, 4 bytes each
	maxStacks = 1024    // in one state
	maxHeld   = 1 << 15 // stacks of all states, 8 bytes each
	maxWork   = 1 << 16 // pushes for each token
)

// Matcher follows one answer. It belongs to one goroutine.
//
// It is a pushdown automaton whose stacks share what they have in common. A state is the set of
// its stacks, and what a byte does to a state is computed once.
type Matcher struct {
	g      *Grammar
	nodes  []node // 0 is the bottom
	ids    map[node]int32
	states [][]int32 // sorted nodes; 0 among them means that the answer may end
	names  map[string]int32
	next   [][]int32 // of each state, by class of byte; 0 is not computed yet
	state  int32
	steps  int // of all states
	held   int // their stacks
	work   int
	err    error

	todo []node // scratch
	seen map[node]bool
	list []int32
	key  []byte
	path []int32
}

// node is a stack: an element to come, above another stack.
type node struct{ at, below int32 }

// dead is the state of texts that the grammar does not have.
const dead = -1

// Cost is the most memory that a grammar and a matcher take, in bytes.
const Cost = 8*maxElements + 64*maxNodes + 64*maxStates + 8*maxHeld + 4*maxSteps

// NewMatcher begins an answer, unless even that is too much.
func (g *Grammar) NewMatcher() (*Matcher, error) {
	m := &Matcher{g: g, seen: map[node]bool{}}
	m.reset()
	for _, at := range g.rules[g.root] {
		m.todo = append(m.todo, node{at, 0})
	}
	m.state = m.closed()
	return m, m.err
}

func (m *Matcher) reset() {
	m.nodes, m.ids = append(m.nodes[:0], node{}), map[node]int32{}
	m.states, m.names, m.next, m.steps, m.held = nil, map[string]int32{}, nil, 0, 0
}

// intern returns the number of a stack.
func (m *Matcher) intern(n node) int32 {
	id, ok := m.ids[n]
	if !ok {
		if len(m.nodes) == maxNodes {
			m.err = ErrComplex
			return 0
		}
		id = int32(len(m.nodes))
		m.nodes = append(m.nodes, n)
		m.ids[n] = id
	}
	return id
}

// closed follows calls and ends from todo until a byte is next, and returns the state.
func (m *Matcher) closed() int32 {
	m.list = m.list[:0]
	if len(m.seen) > maxStacks { // clearing a map takes as long as it was ever large
		m.seen = map[node]bool{}
	}
	clear(m.seen)
	for len(m.todo) > 0 && m.err == nil {
		n := m.todo[len(m.todo)-1]
		m.todo = m.todo[:len(m.todo)-1]
		if m.work++; m.work > maxWork || len(m.list) > maxStacks { // those seen before cost as much
			m.err = ErrComplex
		}
		if m.seen[n] {
			continue
		}
		m.seen[n] = true
		m.follow(n)
	}
	m.todo = m.todo[:0]
	if m.err != nil || len(m.list) == 0 {
		return dead
	}
	slices.Sort(m.list)
	m.list = slices.Compact(m.list)
	m.key = m.key[:0]
	for _, id := range m.list {
		m.key = binary.LittleEndian.AppendUint32(m.key, uint32(id))
	}
	state, ok := m.names[string(m.key)]
	if !ok {
		if m.held += len(m.list); len(m.states) == maxStates || m.held > maxHeld {
			m.err = ErrComplex
			return dead
		}
		state = int32(len(m.states))
		m.names[string(m.key)] = state
		m.states = append(m.states, slices.Clone(m.list))
		m.next = append(m.next, nil)
	}
	return state
}

// follow does what a stack does without a byte.
func (m *Matcher) follow(n node) {
	switch e := m.g.elements[n.at]; e.op {
	case opSet:
		m.list = append(m.list, m.intern(n))
	case opEnd:
		if n.below == 0 {
			m.list = append(m.list, 0)
		} else {
			m.todo = append(m.todo, m.nodes[n.below])
		}
	case opCall:
		below := n.below
		if m.g.elements[n.at+1].op != opEnd { // or a list's end would be as deep as the list is long
			below = m.intern(node{n.at + 1, n.below})
		}
		for _, at := range m.g.rules[e.arg] {
			m.todo = append(m.todo, node{at, below})
		}
	}
}

// step is the state after a byte.
func (m *Matcher) step(state int32, b byte) int32 {
	if m.err != nil { // of before
		return dead
	}
	if m.next[state] == nil {
		if m.steps += m.g.width; m.steps > maxSteps {
			m.err = ErrComplex
			return dead
		}
		m.next[state] = make([]int32, m.g.width)
	}
	class := m.g.classes[b]
	if known := m.next[state][class]; known != 0 {
		if known == dead {
			return dead
		}
		return known - 1
	}
	for _, id := range m.states[state] {
		if n := m.nodes[id]; id != 0 && m.g.sets[m.g.elements[n.at].arg].has(b) {
			m.todo = append(m.todo, node{n.at + 1, n.below})
		}
	}
	to := m.closed()
	if m.err != nil {
		return dead
	}
	m.next[state][class] = to + 1
	if to == dead {
		m.next[state][class] = dead
	}
	return to
}

// Allows says whether a token's bytes may come next. No bytes may not: they lead nowhere.
func (m *Matcher) Allows(piece []byte) (bool, error) {
	state := m.state
	for _, b := range piece {
		if state = m.step(state, b); state == dead {
			return false, m.err
		}
	}
	return len(piece) > 0, m.err
}

// Advance takes bytes that may come next.
func (m *Matcher) Advance(piece []byte) error {
	for _, b := range piece {
		to := m.step(m.state, b)
		if m.err != nil {
			return m.err
		}
		if to == dead {
			return ErrGrammar
		}
		m.state = to
	}
	if m.work = 0; len(m.states) > maxStates/2 || len(m.nodes) > maxNodes/2 || m.steps > maxSteps/2 || m.held > maxHeld/2 {
		m.compact()
	}
	return m.err
}

// MayEnd says whether the answer may end here, MustEnd whether it can do nothing else.
func (m *Matcher) MayEnd() bool { return m.err == nil && m.states[m.state][0] == 0 }

// MustEnd says whether nothing may come next.
func (m *Matcher) MustEnd() bool { return m.MayEnd() && len(m.states[m.state]) == 1 }

// compact forgets all but the current state.
func (m *Matcher) compact() {
	old, state := slices.Clone(m.nodes), m.states[m.state]
	used := make([]bool, len(old))
	for _, id := range state {
		for ; id != 0 && !used[id]; id = old[id].below {
			used[id] = true
		}
	}
	m.reset()
	to := make([]int32, len(old))
	for id := 1; id < len(old); id++ { // what is below another is older
		if used[id] {
			to[id] = m.intern(node{old[id].at, to[old[id].below]})
		}
	}
	for _, id := range state {
		if id == 0 {
			m.todo = append(m.todo, node{m.end(), 0})
		} else {
			m.todo = append(m.todo, m.nodes[to[id]])
		}
	}
	m.state = m.closed()
}

// end is an element that ends an alternative.
func (m *Matcher) end() int32 { return int32(len(m.g.elements) - 1) }
