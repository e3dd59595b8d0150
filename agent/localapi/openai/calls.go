package openai

import (
	"strings"

	"github.com/anchorhold/anchorhold/agent/localapi/rawjson"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/runtime/tokenize"
)

// reader takes the calls of tools out of an answer's text. What it does not pass on yet could
// still become a call.
type reader struct {
	held   string
	inside bool // a call
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
		if r.inside {
			// A string of JSON has no end of a line, so that this is the call's end.
			body, rest, ok := strings.Cut(r.held, "\n"+tokenize.CallEnd)
			if !ok {
				return p
			}
			r.held, r.inside, r.called = rest, false, true
			if call, ok := readCall(body); ok {
				p.calls = append(p.calls, call)
			} else { // which the answer's grammar excludes
				p.text += tokenize.CallBegin + body + "\n" + tokenize.CallEnd
			}
			continue
		}
		before, rest, ok := strings.Cut(r.held, tokenize.CallBegin)
		if ok {
			r.held, r.inside = rest, true
		} else {
			for n := min(len(before), len(tokenize.CallBegin)-1); n >= 0; n-- {
				if strings.HasPrefix(tokenize.CallBegin, before[len(before)-n:]) {
					before, r.held = before[:len(before)-n], before[len(before)-n:]
					break
				}
			}
		}
		if !r.called { // between calls are line ends
			p.text += before
		}
		if !ok {
			return p
		}
	}
}

// end returns what is left of an answer that was cut, with a call that did not end as text.
func (r *reader) end() piece {
	text := r.held
	if r.inside {
		text = tokenize.CallBegin + text
	}
	r.held = ""
	return piece{text: text}
}

func readCall(body string) (call receipt.Call, ok bool) {
	raw := []byte(strings.TrimSpace(body))
	if !rawjson.Valid(raw) {
		return call, false
	}
	members, err := rawjson.Members(raw)
	var name strings.Builder
	if err != nil || rawjson.Text(&name, members["name"]) != nil || members["arguments"] == nil {
		return call, false
	}
	return receipt.Call{Name: name.String(), Arguments: string(members["arguments"])}, true
}
