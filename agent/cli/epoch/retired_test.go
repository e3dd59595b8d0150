package epoch

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// TestARetiredEpochAsksForNoOther: who stole the key of an epoch that the root ended asks for
// the next one.
func TestARetiredEpochAsksForNoOther(t *testing.T) {
	gen := func(l identity.Level) *identity.Private {
		k, err := identity.Generate(l)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	root, stolen, honest, thief, auditKey := gen(identity.LevelRoot), gen(identity.LevelEpoch), gen(identity.LevelEpoch), gen(identity.LevelEpoch), gen(identity.LevelEpoch)
	now := time.Now()
	st := protocol.EpochStatement{Broker: root.Public().ID(), Epoch: 1, MinEpoch: 1, Key: stolen.Public(), NotBefore: protocol.TimeOf(now.Add(-time.Hour)), NotAfter: protocol.TimeOf(now.Add(time.Hour)), AnyPolicy: true, AuditKey: auditKey.Public().ID()}
	sign := func(st protocol.EpochStatement) []byte {
		b, err := protocol.SignEpoch(root, st)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first := sign(st)
	two := st
	two.Epoch, two.MinEpoch, two.Key, two.NotAfter = 2, 2, honest.Public(), protocol.TimeOf(now.Add(2*time.Hour))
	dir := t.TempDir()
	last := filepath.Join(dir, "root.key.epoch")
	if err := os.WriteFile(last, sign(two), 0o600); err != nil {
		t.Fatal(err)
	}
	three := two
	three.Epoch, three.Key, three.NotBefore, three.NotAfter = 3, thief.Public(), protocol.TimeOf(now.Add(-time.Minute)), protocol.TimeOf(now.AddDate(10, 0, 0))
	three.MinEpoch = 3
	req, err := protocol.SignEpochRequest(stolen, protocol.EpochRequest{Asked: three, Current: first})
	if err != nil {
		t.Fatal(err)
	}
	s := signOptions{last: last}
	_, _, _, err = s.judge(req, root.Public(), protocol.TimeOf(now))
	if reason, _ := refusal.ReasonOf(err); reason != protocol.ReasonEpochRetired {
		t.Errorf("got %v, want %s", err, protocol.ReasonEpochRetired)
	}
}
