// Package grammar says which texts an answer may be, and which tokens may come next in it.
//
// A [Grammar] is context free. [Parse] reads one in a subset of GBNF, llama.cpp's notation; the
// package schema makes one from a JSON schema, with a [Builder]. A [Matcher] follows an answer
// byte by byte, so that tokens which are part of a character are no special case, and finds the
// tokens of a [Vocabulary] that may follow.
//
// Grammars come from clients and are not trusted. Their size is limited, and so are memory and
// work of a matcher for each token: a grammar that would need more ends its own answer with
// [ErrComplex]. Rules that begin with themselves, and rules that nothing can fulfil, are refused.
//
// The inference engine calls it.
package grammar

import (
	"errors"
	"fmt"
	"math/bits"
)

// ErrGrammar means that a grammar is refused.
var ErrGrammar = errors.New("grammar refused")

// maxElements bounds a grammar.
const maxElements = 1 << 14

// maxMade bounds the elements of all expressions that a grammar is made of: less memory than the
// matcher takes that comes after them.
const maxMade = 4 * maxElements

// Grammar is compiled. It is immutable and safe for concurrent use.
type Grammar struct {
	elements []element
	rules    [][]int32 // where the alternatives of each begin
	sets     []set
	classes  [256]uint8 // bytes that no set tells apart have the same
	width    int        // number of classes
	root     int32
}

type op uint8

const (
	opEnd  op = iota // of an alternative
	opSet            // one byte of a set
	opCall           // a rule
)

type element struct {
	op  op
	arg int32
}

// set is a set of bytes.
type set [4]uint64

func (s *set) add(from, to byte) {
	for b := int(from); b <= int(to); b++ {
		s[b>>6] |= 1 << (b & 63)
	}
}

func (s *set) has(b byte) bool { return s[b>>6]>>(b&63)&1 != 0 }

// finish checks the rules that can be reached.
func (b *Builder) finish(root int32) (*Grammar, error) {
	if b.err != nil {
		return nil, b.err
	}
	g := &Grammar{sets: b.sets, root: root, rules: make([][]int32, len(b.rules))}
	for i, alternatives := range b.rules {
		if alternatives == nil {
			return nil, fmt.Errorf("%w: rule %.100q is not defined", ErrGrammar, b.name(int32(i)))
		}
		for _, e := range alternatives {
			g.rules[i] = append(g.rules[i], int32(len(g.elements)))
			g.elements = append(append(g.elements, e...), element{op: opEnd})
		}
	}
	g.classify()
	ends := g.fixpoint(true)
	for i, ok := range ends {
		if !ok {
			return nil, fmt.Errorf("%w: rule %.100q can never end", ErrGrammar, b.name(int32(i)))
		}
	}
	if rule := g.leftRecursive(g.fixpoint(false)); rule >= 0 {
		return nil, fmt.Errorf("%w: rule %.100q begins with itself, or repeats what may be empty", ErrGrammar, b.name(rule))
	}
	return g, nil
}

// classify finds the bytes that no set tells apart.
func (g *Grammar) classify() {
	ids := map[[2]uint32]uint8{}
	var class [256]uint8
	width := 1
	for i := range g.sets { // each set splits the classes so far
		clear(ids)
		width = 0
		for c := range class {
			key := [2]uint32{uint32(class[c]), 0}
			if g.sets[i].has(byte(c)) {
				key[1] = 1
			}
			id, ok := ids[key]
			if !ok {
				id = uint8(width)
				ids[key] = id
				width++
			}
			class[c] = id
		}
	}
	g.classes, g.width = class, width
}

// fixpoint says of each rule whether some text fulfils it, or with sets false whether no text at
// all does.
func (g *Grammar) fixpoint(sets bool) []bool {
	type alternative struct{ rule, open int32 }
	var alternatives []alternative
	users := make([][]int32, len(g.rules)) // of each rule
	holds := make([]bool, len(g.rules))
	var found []int32
	settle := func(rule int32) {
		if !holds[rule] {
			holds[rule] = true
			found = append(found, rule)
		}
	}
	for rule, starts := range g.rules {
		for _, at := range starts {
			a := alternative{rule: int32(rule)}
			for ; g.elements[at].op != opEnd; at++ {
				switch e := g.elements[at]; {
				case e.op == opCall:
					a.open++
					users[e.arg] = append(users[e.arg], int32(len(alternatives)))
				case !sets:
					a.open += maxElements // never
				}
			}
			alternatives = append(alternatives, a)
			if a.open == 0 {
				settle(a.rule)
			}
		}
	}
	for len(found) > 0 {
		rule := found[len(found)-1]
		found = found[:len(found)-1]
		for _, i := range users[rule] {
			if alternatives[i].open--; alternatives[i].open == 0 {
				settle(alternatives[i].rule)
			}
		}
	}
	return holds
}

// leftRecursive returns a rule that can come back to itself before any byte, or -1.
func (g *Grammar) leftRecursive(empty []bool) int32 {
	const unknown, open, done = 0, 1, 2
	state := make([]uint8, len(g.rules))
	var visit func(rule int32) int32
	visit = func(rule int32) int32 {
		state[rule] = open
		for _, at := range g.rules[rule] {
			for ; g.elements[at].op == opCall; at++ {
				to := g.elements[at].arg
				if state[to] == open {
					return to
				}
				if state[to] == unknown {
					if bad := visit(to); bad >= 0 {
						return bad
					}
				}
				if !empty[to] {
					break
				}
			}
		}
		state[rule] = done
		return -1
	}
	for rule := range g.rules {
		if state[rule] == unknown {
			if bad := visit(int32(rule)); bad >= 0 {
				return bad
			}
		}
	}
	return -1
}

// size is the number of bytes in a set.
func (s *set) size() (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}
