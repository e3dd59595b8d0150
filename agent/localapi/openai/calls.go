package openai

import (
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/agent/localapi/rawjson"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/runtime/tokenize"
)

// fenceBegin and fenceEnd are around what Qwen2.5-Coder writes in place of a call, as llama.cpp
// reads it, too.
const fenceBegin, fenceEnd = "```json\n", "\n```"

// reader takes the calls of tools out of an answer's text. What it does not pass on yet could
// still become a call.
type reader struct {
	// fenced are the functions whose calls may come as blocks of JSON: those of which no schema
	// has to hold.
	fenced []string

	held   string
	begin  string // of the call that is read; empty outside
	called bool
}

// piece is what becomes known of an answer at a time.
type piece struct {
	text  string
	calls []receipt.Call
}

// push adds text and returns what is certain.
func (r *reader) push(text string) (p piece) {
	r.held += text
	for {
		if r.begin == "" && !r.outside(&p) {
			return p
		}
		end := "\n" + tokenize.CallEnd // a string of JSON has no end of a line
		if r.begin == fenceBegin {
			end = fenceEnd
		}
		body, rest, ok := strings.Cut(r.held, end)
		if !ok {
			return p
		}
		call, ok := readCall(body)
		if ok = ok && (r.begin != fenceBegin || slices.Contains(r.fenced, call.Name)); ok {
			p.calls, r.called = append(p.calls, call), true
		} else { // a block of something else
			p.text += r.begin + body + end
		}
		r.held, r.begin = rest, ""
	}
}

// outside passes on text up to the next call, and says whether one begins.
func (r *reader) outside(p *piece) bool {
	marks := []string{tokenize.CallBegin}
	if r.fenced != nil {
		marks = append(marks, fenceBegin)
	}
	before, mark := r.held, ""
	for _, m := range marks {
		if text, _, ok := strings.Cut(before, m); ok {
			before, mark = text, m
		}
	}
	rest := r.held[len(before)+len(mark):]
	if mark == "" {
		for _, m := range marks { // the longest end that begins one
			for n := min(len(r.held), len(m)-1); n > len(rest); n-- {
				if strings.HasPrefix(m, r.held[len(r.held)-n:]) {
					before, rest = r.held[:len(r.held)-n], r.held[len(r.held)-n:]
				}
			}
		}
	}
	if !r.called || strings.TrimSpace(before) != "" { // between calls are line ends
		p.text += before
	}
	r.held, r.begin = rest, mark
	return mark != ""
}

// end returns what is left of an answer that was cut, with a call that did not end as text.
func (r *reader) end() piece {
	text := r.begin + r.held
	r.held, r.begin = "", ""
	return piece{text: text}
}

func readCall(body string) (call receipt.Call, ok bool) {
	raw := []byte(strings.TrimSpace(body))
	if !rawjson.Valid(raw) {
		return call, false
	}
	members, err := rawjson.Members(raw)
	var name strings.Builder
	if err != nil || rawjson.Text(&name, members["name"]) != nil || len(members["arguments"]) == 0 || members["arguments"][0] != '{' {
		return call, false
	}
	return receipt.Call{Name: name.String(), Arguments: string(members["arguments"])}, true
}
