package client

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/keywrap"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// released returns an exchange that has just read a release with one key, for a lease of a minute.
func released(t *testing.T) *exchange {
	t.Helper()
	kem, err := keywrap.NewRecipient()
	if err != nil {
		t.Fatal(err)
	}
	x := &exchange{client: &Client{}, kem: kem, resources: []string{"models/a"}, sent: time.Now()}
	x.grant = protocol.Grant{Lease: digest.LeaseID{1}, BrokerTime: protocol.TimeOf(time.Now()), LeaseEnd: protocol.TimeOf(time.Now().Add(time.Minute))}
	secret, err := keybuf.Random(32)
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Wipe()
	info := protocol.KeyInfo(x.transcript(), x.grant.Lease, "models/a", 1, 0, x.grant.LeaseEnd)
	enc, sealed, err := keywrap.Seal(kem.PublicKey(), info, secret)
	if err != nil {
		t.Fatal(err)
	}
	x.release.Items = []protocol.Item{{Resource: "models/a", Version: 1, Enc: enc, Ciphertext: sealed}}
	return x
}

// opened returns that exchange once it has opened the key.
func opened(t *testing.T) *exchange {
	t.Helper()
	x := released(t)
	if err := x.open(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.wipe)
	return x
}

// Between the opening of keys and their caller lie M7 and the end of a connection, which
// are the host's: a step that does not come back must not keep keys past the lease's end.
func TestKeysAreWipedAtTheLeasesEndUntilTheyAreHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := opened(t)
		<-time.After(time.Minute - time.Millisecond)
		synctest.Wait()
		if x.unwrapped[0].Len() != 32 {
			t.Fatal("the key was wiped before the lease's end")
		}
		<-time.After(time.Millisecond)
		synctest.Wait()
		if x.unwrapped[0].Len() != 0 {
			t.Error("the lease is over, and its key is there")
		}
		if reason, _ := refusal.ReasonOf(x.handOver()); reason != protocol.ReasonLeaseExpired {
			t.Errorf("wiped keys were handed over: %q", reason)
		}
	})
}

// A later lease may keep the same key: the end of the one that it came with is not this
// package's business any more.
func TestKeysThatWereHandedOverAreTheCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := opened(t)
		if err := x.handOver(); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Hour)
		synctest.Wait()
		if x.unwrapped[0].Len() != 32 {
			t.Error("the key was wiped although its caller has it")
		}
	})
}

// A broker grants what is left of a policy, which may be a moment: the release then comes after the lease's end.
func TestAReleaseThatComesTooLateIsNotOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := released(t)
		<-time.After(time.Minute)
		if reason, _ := refusal.ReasonOf(x.open(context.Background())); reason != protocol.ReasonLeaseExpired {
			t.Errorf("got the reason %q, want %q", reason, protocol.ReasonLeaseExpired)
		}
		if len(x.unwrapped) > 0 {
			t.Error("the lease is over, and its key was opened")
		}
		x.wipe()
	})
}
