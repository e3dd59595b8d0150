package tdx

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
)

func shared(tb testing.TB, elem ...string) []byte {
	tb.Helper()
	return evidencetest.Read(tb, append([]string{"tdx"}, elem...)...)
}

func TestRealQuotesAreRead(t *testing.T) {
	for name, mrtd := range map[string]string{ // from the hexadecimal dump of each file
		"02-v5-google": "7348651a34b2d2d3", "03-v4-gcp-cos113": "dae67181d3d65e07", "04-v4-phala": "91eb2b44d141d4ec",
		"07-v4-debug-trustee": "705ee9381b8633a9",
	} {
		q, err := parseQuote(shared(t, name, "quote.bin"))
		if err != nil || q.registers.RTMR[0] == [RegisterSize]byte{} || q.registers.MRTD == [RegisterSize]byte{} {
			t.Errorf("%s: %v", name, err)
		}
		if got := hex.EncodeToString(q.registers.MRTD[:8]); got != mrtd {
			t.Errorf("%s: MRTD begins with %s", name, got)
		}
	}
	q, err := parseQuote(shared(t, "03-v4-gcp-cos113", "quote.bin"))
	if nonce := shared(t, "03-v4-gcp-cos113", "nonce.bin"); err != nil || !bytes.Equal(q.reportData[:], nonce) {
		t.Errorf("%v, REPORT_DATA %x, asked for %x", err, q.reportData, nonce)
	}
	_, err = parseQuote(shared(t, "neg-sgx-v3", "quote.bin"))
	wantReason(t, err, ReasonDevice)
}

func TestEventLogOfARealGuest(t *testing.T) {
	d := newDomain(false)
	d.Plain[DefaultACPI+"/CCEL"] = shared(t, "03-v4-gcp-cos113", "ccel-table.bin")
	d.Plain[DefaultACPI+"/data/CCEL"] = shared(t, "03-v4-gcp-cos113", "ccel.bin")
	if log, err := collector(t, d).EventLog(); err != nil || len(log) == 0 || len(log) > evidence.MaxLogBytes/2 {
		t.Errorf("%d bytes, %v", len(log), err)
	}
}

func TestBodiesOfEveryKnownTypeAreRead(t *testing.T) {
	r := newDomain(false).registers
	for _, kind := range []uint16{2, 3, 4} {
		quote := quoteOver(5, kind, asked[:], r)
		q, err := parseQuote(quote)
		if err != nil || q.reportData != asked || q.registers != r {
			t.Errorf("type %d: %v", kind, err)
		}
		for what, spoil := range map[string]func([]byte){
			"size of less than the body": func(q []byte) { q[50]-- },
			"size beyond the end":        func(q []byte) { q[53] = 0x7f },
			"no size":                    func(q []byte) { clear(q[50:54]) },
		} {
			bad := bytes.Clone(quote)
			spoil(bad)
			if _, err := parseQuote(bad); err == nil {
				t.Errorf("type %d, %s: accepted", kind, what)
			}
		}
	}
	for _, kind := range []uint16{0, 1, 5, 0xffff} {
		if _, err := parseQuote(quoteOver(5, kind, asked[:], r)); err == nil {
			t.Errorf("type %d: accepted", kind)
		}
	}
	cut := quoteOver(5, 2, asked[:], r)
	for size := range 54 + 584 {
		if _, err := parseQuote(cut[:size]); err == nil {
			t.Errorf("%d bytes: accepted", size)
		}
	}
}

// FuzzQuote: the host writes the quote, and the host is not trusted.
func FuzzQuote(f *testing.F) {
	r := newDomain(false).registers
	f.Add(quoteOver(4, 2, asked[:], r))
	f.Add(quoteOver(5, 2, asked[:], r))
	f.Add(quoteOver(5, 3, asked[:], r))
	f.Add([]byte{})
	for _, name := range []string{"02-v5-google", "neg-sgx-v3"} {
		if quote, ok := evidencetest.Seed(f, "tdx", name, "quote.bin"); ok {
			f.Add(quote)
		}
	}
	f.Fuzz(func(t *testing.T, quote []byte) {
		q, err := parseQuote(quote)
		if err != nil {
			if reason, _ := refusal.ReasonOf(err); reason != ReasonDevice || q != (quoted{}) {
				t.Errorf("%v with %v", err, q)
			}
			return
		}
		if !bytes.Contains(quote, q.reportData[:]) || !bytes.Contains(quote, q.registers.MRTD[:]) {
			t.Error("something was read that the quote does not contain")
		}
	})
}
