package keybroker

import (
	"errors"
	"fmt"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// denial is a refusal with all its reasons: the first one's code goes to the
// peer, everything to the audit log.
type denial struct {
	reasons []audit.Reason
	err     error // what the first reason came from; may be nil
}

// Error lists the reasons for the broker's own log.
func (d *denial) Error() string {
	codes := make([]string, len(d.reasons))
	for i, r := range d.reasons {
		codes[i] = r.Code
	}
	return "refused: " + strings.Join(codes, ", ")
}

// Unwrap returns the cause.
func (d *denial) Unwrap() error { return d.err }

// code is what the peer is told.
func (d *denial) code() refusal.Reason { return refusal.Reason(d.reasons[0].Code) }

// denied makes a denial of any error: one that carries a reason code keeps it,
// any other is an internal error whose text the peer never sees.
func denied(err error) *denial {
	var d *denial
	if errors.As(err, &d) && len(d.reasons) > 0 {
		return d
	}
	var r *refusal.Error
	if errors.As(err, &r) {
		detail := r.Detail
		if r.Err != nil && !strings.Contains(detail, r.Err.Error()) { // refusal.New has it in the detail already
			detail = fmt.Sprintf("%s: %v", detail, r.Err)
		}
		return &denial{reasons: []audit.Reason{{Code: string(r.Reason), Detail: detail}}, err: err}
	}
	return because(protocol.ReasonInternal, err)
}

// because gives an error of a collaborator its reason code.
func because(code refusal.Reason, err error) *denial {
	return &denial{reasons: []audit.Reason{{Code: string(code), Detail: strings.TrimPrefix(err.Error(), string(code)+": ")}}, err: err}
}
