package evidence

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

func smallTPMQuote() TPMQuote {
	return TPMQuote{Attest: []byte("attest"), Signature: []byte("sig"), Public: []byte("pub"), Bank: BankSHA256,
		PCRs: map[int]Hex{7: bytes.Repeat([]byte{7}, 32), 0: make(Hex, 32)}}
}

// The vector of the format: it stays as it is for ever.
func TestTPMQuoteVector(t *testing.T) {
	const want = "01" + "0006617474657374" + "0003736967" + "0003707562" + "000b" + "02" + "00" + "0000000000000000000000000000000000000000000000000000000000000000" +
		"07" + "0707070707070707070707070707070707070707070707070707070707070707"
	data, err := smallTPMQuote().Marshal()
	if err != nil || hex.EncodeToString(data) != want {
		t.Fatalf("%x, %v", data, err)
	}
	back, err := ParseTPMQuote(data)
	if err != nil || string(back.Attest) != "attest" || string(back.Signature) != "sig" || string(back.Public) != "pub" || back.Bank != BankSHA256 ||
		len(back.PCRs) != 2 || !bytes.Equal(back.PCRs[7], bytes.Repeat([]byte{7}, 32)) {
		t.Errorf("%+v, %v", back, err)
	}
}

func TestTPMQuoteOfOtherShapesIsRefused(t *testing.T) {
	good, err := smallTPMQuote().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	at := len(good) - 66 // the first PCR's number
	changed := func(offset int, b ...byte) []byte {
		return append(append(bytes.Clone(good[:offset]), b...), good[offset+len(b):]...)
	}
	for name, data := range map[string][]byte{
		"other version": changed(0, 2), "unknown bank": changed(at-3, 0, 4), "no PCRs": changed(at-1, 0)[:at], "too many PCRs": changed(at-1, 25),
		"twice the same PCR": changed(at+33, 0), "out of order": changed(at, 8), "no such PCR": changed(at+33, 24), "trailing byte": append(bytes.Clone(good), 0),
		"no attestation": append([]byte{1, 0, 0}, good[9:]...), "too large": make([]byte, MaxTPMQuoteBytes+1),
	} {
		if _, err := ParseTPMQuote(data); err == nil || !strings.Contains(err.Error(), string(ReasonMalformedEvidence)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for cut := range good {
		if _, err := ParseTPMQuote(good[:cut]); err == nil {
			t.Errorf("cut to %d bytes: accepted", cut)
		}
	}
	for name, change := range map[string]func(*TPMQuote){
		"no attestation": func(q *TPMQuote) { q.Attest = nil }, "long attestation": func(q *TPMQuote) { q.Attest = make([]byte, MaxTPMAttestBytes+1) },
		"no signature": func(q *TPMQuote) { q.Signature = nil }, "long signature": func(q *TPMQuote) { q.Signature = make([]byte, MaxTPMSignatureBytes+1) },
		"long public area": func(q *TPMQuote) { q.Public = make([]byte, MaxTPMPublicBytes+1) }, "no PCRs": func(q *TPMQuote) { q.PCRs = nil },
		"no such PCR": func(q *TPMQuote) { q.PCRs[24] = make(Hex, 32) }, "value of another bank": func(q *TPMQuote) { q.PCRs[1] = make(Hex, 48) },
		"SHA-1": func(q *TPMQuote) { q.Bank = "sha1" },
	} {
		q := smallTPMQuote()
		change(&q)
		if _, err := q.Marshal(); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
}

// FuzzTPMQuote: what parses is canonical.
func FuzzTPMQuote(f *testing.F) {
	good, err := smallTPMQuote().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	f.Add(good[:20])
	f.Fuzz(func(t *testing.T, data []byte) {
		q, err := ParseTPMQuote(data)
		if err != nil {
			return
		}
		if again, err := q.Marshal(); err != nil || !bytes.Equal(again, data) {
			t.Errorf("%x becomes %x, %v", data, again, err)
		}
	})
}
