//go:build !release

package tenure

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/openmodel"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// TestReceiptOfAnAnswerThatOutlivedItsLeaseNamesTheRenewal: an answer that began under
// one lease ends under the next, with a receipt that verifies and names the lease of
// its end; after the last lease there is none.
func TestReceiptOfAnAnswerThatOutlivedItsLeaseNamesTheRenewal(t *testing.T) {
	f := brokertest.New(t)
	f.PutFor(brokertest.Resource, brokertest.Secret, [32]byte{7})
	cfg := f.ClientConfig()
	broker, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	acquire := func() *client.Lease {
		l, err := broker.Acquire(t.Context(), []string{brokertest.Resource})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.Wipe)
		return l
	}
	first, second := acquire(), acquire()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		first.Expires, second.Expires = now.Add(time.Minute), now.Add(time.Minute+second.TTL)
		granted := map[string]client.Key{"models/test": {Version: 1}}
		first.Keys, second.Keys = granted, granted
		tenure, model := New(slog.New(slog.DiscardHandler)), &Model{Model: &openmodel.Model{Model: settings.Model{Resource: "models/test"}, KeyVersion: 1, Custody: &openmodel.Custody{}}}
		if err := tenure.adopt(first); err != nil {
			t.Fatal(err)
		}
		show := func(m *Model) {
			tenure.mu.Lock()
			defer tenure.mu.Unlock()
			tenure.model, tenure.refusal = m, nil
		}
		show(model)
		issue := tenure.Issue(model, cfg.AgentKey) // as the request begins
		time.Sleep(50 * time.Second)
		if err := tenure.adopt(second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		id, err := receipt.NewID()
		if err != nil {
			t.Fatal(err)
		}
		answer := receipt.Answer{ID: id, ModelID: [32]byte{7}, ModelName: "tiny", ModelVersion: 1, Input: []byte("in"), Output: []byte("out")}
		issued, err := issue(answer)
		if err != nil {
			t.Fatalf("ten seconds after the end of the first lease: %v", err)
		}
		report, err := receipt.Verify(issued.Receipt, []identity.Public{f.Root.Public()}, receipt.Options{})
		if err != nil || report.Lease.Lease.String() != second.ID {
			t.Errorf("lease %s, the renewal is %s: %v", report.Lease.Lease, second.ID, err)
		}
		other := &Model{Model: &openmodel.Model{Model: settings.Model{Resource: "models/test"}, KeyVersion: 1, Custody: &openmodel.Custody{}}}
		if _, err := tenure.Issue(other, cfg.AgentKey)(answer); err == nil {
			t.Error("a receipt for a model that is not served any more")
		}
		show(nil) // it has no engine that could be closed
		time.Sleep(time.Hour)
		synctest.Wait()
		if _, err := issue(answer); err == nil {
			t.Error("a receipt after the last lease")
		}
	})
}
