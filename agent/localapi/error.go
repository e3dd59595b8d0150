package localapi

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// Error is an error as clients of OpenAI's API know it: one JSON form for every error, with a
// stable code. Who makes one says nothing in it of other requests.
type Error struct {
	// Status is the HTTP status, RetryAfter seconds or 0.
	Status, RetryAfter int
	// Message is for people, Code is stable. Type and Param are of OpenAI's form.
	Message, Type, Param, Code string
}

// Error is the message.
func (p *Error) Error() string { return p.Message }

// BadRequest is the client's mistake in one parameter.
func BadRequest(param, code, message string) *Error {
	return &Error{Status: http.StatusBadRequest, Message: message, Type: "invalid_request_error", Param: param, Code: code}
}

// MarshalJSON writes the error object: param and code are null when empty.
func (p *Error) MarshalJSON() ([]byte, error) {
	null := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	var body struct {
		Error struct {
			Message string  `json:"message"`
			Type    string  `json:"type"`
			Param   *string `json:"param"`
			Code    *string `json:"code"`
		} `json:"error"`
	}
	body.Error.Message, body.Error.Type = p.Message, p.Type
	body.Error.Param, body.Error.Code = null(p.Param), null(p.Code)
	return json.Marshal(body)
}

// WriteError sends an error as the whole response.
func WriteError(w http.ResponseWriter, p *Error) {
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	WriteJSON(w, p.Status, p)
}

// WriteJSON sends a value. A failed write means that the client has gone.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "{}", http.StatusInternalServerError)
		return
	}
	WriteBody(w, status, body)
}

// WriteBody sends what is JSON already: of an answer that is whole, so that all it was made
// from can be let go before its reader reads.
func WriteBody(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
