package localapi

import (
	"net/http"
	"time"
)

// readRate is what a reader takes a second at least, beyond the time that a response has.
const readRate = 1 << 20

// recorder writes the response of one request, of every route. What its writes may take
// together is bounded, and that bound also holds for what the server sends after the handler:
// a client that does not read, or takes a stream a little at a time, loses its connection. It
// remembers the status, and whether the response is a stream already.
type recorder struct {
	http.ResponseWriter
	control *http.ResponseController
	left    time.Duration // for waiting in writes
	status  int
	stream  *Stream
}

// newRecorder begins a response to a request that may take so long, and whose writes may take
// limit, and a second more for each readRate bytes. The deadline of the connection's last
// response is over.
func newRecorder(w http.ResponseWriter, request, limit time.Duration) *recorder {
	r := &recorder{ResponseWriter: w, control: http.NewResponseController(w), left: limit, status: http.StatusOK}
	_ = r.control.SetWriteDeadline(time.Now().Add(request + limit))
	return r
}

// WriteHeader notes the status.
func (r *recorder) WriteHeader(status int) {
	r.status = status
	_ = r.spend(func() error { r.ResponseWriter.WriteHeader(status); return nil })
}

// Write gives the client time to read, more for a long answer.
func (r *recorder) Write(p []byte) (n int, err error) {
	r.left += time.Duration(len(p)) * time.Second / readRate
	err = r.spend(func() error { n, err = r.ResponseWriter.Write(p); return err })
	return n, err
}

// FlushError serves http.ResponseController.
func (r *recorder) FlushError() error { return r.spend(r.control.Flush) }

// spend writes in the time that is left.
func (r *recorder) spend(write func() error) error {
	began := time.Now()
	_ = r.control.SetWriteDeadline(began.Add(r.left))
	err := write()
	r.left -= time.Since(began)
	return err
}

// Unwrap serves http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// fail ends the response with an error: an object, or an event in a stream.
func (r *recorder) fail(p *Error) {
	if r.stream == nil || !r.stream.begun {
		WriteError(r, p)
		return
	}
	r.status = p.Status // for the metrics; the client has seen 200
	_ = r.stream.Send(p)
}
