package roundkey

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

func secret(t *testing.T, b byte) *keybuf.Buffer {
	t.Helper()
	k, err := keybuf.Take(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

func reasonOf(err error) refusal.Reason {
	reason, _ := refusal.ReasonOf(err)
	return reason
}

// TestARoundsKeyIsHeldWhileItsLeaseIsRenewed: and no longer; another key renews nothing.
func TestARoundsKeyIsHeldWhileItsLeaseIsRenewed(t *testing.T) {
	for name, c := range map[string]struct {
		after error // of renewals from an hour on
		other byte  // the key that they bring
		panic bool  // they do
	}{"refused": {after: errors.New("away"), other: 7}, "another key": {other: 8}, "a panic": {panic: true}} {
		key := secret(t, 7)
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			var calls atomic.Int32
			r := federation.Round{ID: digest.RoundID{1}}
			keys := New(func(_ context.Context, resources []string) (*client.Lease, error) {
				call := calls.Add(1)
				k := secret(t, 7)
				if time.Since(begin) > time.Hour {
					if c.panic {
						panic("nobody foresaw this")
					}
					if c.after != nil {
						return nil, c.after
					}
					k = secret(t, c.other)
				}
				return &client.Lease{Keys: map[string]client.Key{resources[0]: {Key: k}}, Certificate: []byte{byte(call)}, Expires: time.Now().Add(10 * time.Minute)}, nil
			}, slog.New(slog.DiscardHandler))
			held10 := Key{Secret: key, Expires: begin.Add(10 * time.Minute)}
			under, release := keys.Hold(t.Context(), r, &held10)
			time.Sleep(time.Hour)
			synctest.Wait()
			if n := calls.Load(); under.Err() != nil || key.Len() == 0 || n < 7 || n > 9 {
				t.Errorf("%s: after an hour: %v, %d bytes of key, %d renewals", name, context.Cause(under), key.Len(), n)
			}
			time.Sleep(11 * time.Minute)
			synctest.Wait()
			if reasonOf(context.Cause(under)) != protocol.ReasonLeaseExpired || key.Len() != 0 {
				t.Errorf("%s: after the last renewal: %v, %d bytes of key", name, context.Cause(under), key.Len())
			}
			release()
			if len(held10.Chain) != 1 || held10.Chain[0] < 7 {
				t.Errorf("%s: the result would be signed under lease %v", name, held10.Chain)
			}
		})
	}
}

// TestARoundsKeyIsWipedWithItsJob: and as a party there is none.
func TestARoundsKeyIsWipedWithItsJob(t *testing.T) {
	k, key := New(nil, nil), secret(t, 7)
	ctx, cancel := context.WithCancel(t.Context())
	under, release := k.Hold(ctx, federation.Round{}, &Key{Secret: key, Expires: time.Now().Add(time.Hour)})
	cancel()
	<-under.Done()
	release()
	if key.Len() != 0 {
		t.Error("the key outlives its job")
	}
	under, release = k.Hold(t.Context(), federation.Round{}, &Key{})
	if release(); under.Err() != nil {
		t.Error("a party's job ends with a key that it does not have")
	}
}
