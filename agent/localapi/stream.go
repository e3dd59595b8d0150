package localapi

import (
	"encoding/json"
	"net/http"
)

// Stream writes server-sent events. All its writes together have a bounded time, the
// recorder's: the place in the line is kept for the engine, not for a reader who is slow.
// It belongs to the goroutine of its request.
type Stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
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

// Send writes one event as JSON.
func (st *Stream) Send(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return st.Event(data)
}

// Event writes one event.
func (st *Stream) Event(data []byte) error {
	if !st.begun {
		st.begun = true
		h := st.w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-store")
		st.w.WriteHeader(http.StatusOK)
	}
	if _, err := st.w.Write(append(append([]byte("data: "), data...), '\n', '\n')); err != nil {
		return err
	}
	return st.control.Flush()
}
