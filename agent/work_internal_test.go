package agent

import (
	"testing"

	"github.com/anchorhold/anchorhold/agent/fed"
	"github.com/anchorhold/anchorhold/agent/fed/party"
	"github.com/anchorhold/anchorhold/agent/longwork"
)

// A part that there is not is nil to the local API, which says so, and not a nil pointer in an
// interface, which it would call.
func TestAbsentPartsOfLongWorkAreNil(t *testing.T) {
	if w := served(longwork.Running{}); w.Federation != nil || w.Party != nil {
		t.Errorf("%+v", w)
	}
	if w := served(longwork.Running{Federation: &fed.Service{}, Party: &party.Service{}}); w.Federation == nil || w.Party == nil {
		t.Errorf("%+v", w)
	}
}
