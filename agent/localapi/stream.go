package localapi

import (
	"encoding/json"
	"net/http"
)

// Stream writes server-sent events, or lines of JSON. All its writes together have a bounded time, the
// recorder's: the place in the line is kept for the engine, not for a reader who is slow.
// It belongs to the goroutine of its request.
type Stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
	lines   bool
}

// NewStream hooks a stream into the response: an error before its first event
// is an ordinary response, one after it an event.
func NewStream(w http.ResponseWriter) *Stream {
	st := &Stream{w: w, control: http.NewResponseController(w)}
	if rec, ok := w.(*recorder); ok {
		rec.stream = st
	}
	return st
}

// NewLines is NewStream for values of JSON on lines of their own, as Ollama has them.
func NewLines(w http.ResponseWriter) *Stream {
	st := NewStream(w)
	st.lines = true
	return st
}

// Send writes one event as JSON.
func (st *Stream) Send(v any) error { return st.SendNamed("", v) }

// SendNamed is Send with the event's name; empty is none.
func (st *Stream) SendNamed(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if name != "" {
		return st.write("event: "+name+"\ndata: ", data, "\n\n")
	}
	return st.Event(data)
}

// Event writes one event without a name.
func (st *Stream) Event(data []byte) error {
	if st.lines {
		return st.write("", data, "\n")
	}
	return st.write("data: ", data, "\n\n")
}

// write writes data without a copy of it, which may be long.
func (st *Stream) write(before string, data []byte, after string) error {
	if !st.begun {
		st.begun = true
		h := st.w.Header()
		h.Set("Content-Type", map[bool]string{true: "application/x-ndjson", false: "text/event-stream"}[st.lines])
		h.Set("Cache-Control", "no-store")
		st.w.WriteHeader(http.StatusOK)
	}
	for _, part := range [][]byte{[]byte(before), data, []byte(after)} {
		if _, err := st.w.Write(part); err != nil {
			return err
		}
	}
	return st.control.Flush()
}
