package localapi

import (
	"fmt"
	"net/http"

	"github.com/anchorhold/anchorhold/crypto/digest"
)

// ReceiptHeader names the receipt of an answer, in streams as well.
const ReceiptHeader = "X-Anchorhold-Receipt"

// RequestReceipt is a header of requests: "full" asks for the whole receipt of each answer,
// with its salts, so that nothing is lost when the agent forgets it; "id", or no header,
// for its name.
const RequestReceipt = "Anchorhold-Receipt"

// FullReceipt says whether a request asks for whole receipts.
func FullReceipt(r *http.Request) (bool, error) {
	switch v := r.Header.Get(RequestReceipt); v {
	case "", "id":
		return false, nil
	case "full":
		return true, nil
	default:
		return false, BadRequest(RequestReceipt, "unsupported-value", fmt.Sprintf("header %s must be full or id, got %.32q", RequestReceipt, v))
	}
}

// showReceipt returns a receipt to the user whose request it answers.
func (s *Server) showReceipt(w http.ResponseWriter, r *http.Request) error {
	unknown := &Error{Status: http.StatusNotFound, Type: "invalid_request_error", Param: "id", Code: "receipt-not-found",
		Message: "no such receipt: it is another user's, too old, or from before a restart"}
	id, err := digest.ParseID[digest.Receipt](r.PathValue("id"))
	if err != nil {
		return unknown
	}
	issued, ok := s.receipts.Get(s.UID(r.Context()), id)
	if !ok {
		return unknown
	}
	WriteJSON(w, http.StatusOK, issued)
	return nil
}
