package audit_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/audit"
)

// reader reads a log by docs/audit-log.md and nothing of package audit.
type reader struct {
	t   *testing.T
	dir string
}

func (r reader) file(name string) []byte {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

// entries reads all segments of a stream, checking every length, checksum and link.
func (r reader) entries(prefix string) (out [][]byte) {
	r.t.Helper()
	names, err := filepath.Glob(filepath.Join(r.dir, prefix+"*.seg"))
	if err != nil || len(names) == 0 {
		r.t.Fatal(names, err)
	}
	sum := func(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }
	chain := make([]byte, 32)
	for _, name := range names {
		b := r.file(filepath.Base(name))
		first := binary.BigEndian.Uint64(b[8:])
		if string(b[:8]) != "ahaudit\x01" || first != uint64(len(out)) || !bytes.Equal(b[16:48], chain) || sum(b[:48]) != binary.BigEndian.Uint32(b[48:]) ||
			filepath.Base(name) != prefix+hex.EncodeToString(b[8:16])+".seg" {
			r.t.Fatalf("%s: segment header", name)
		}
		for b = b[52:]; len(b) > 0; {
			length, count := int(binary.BigEndian.Uint32(b[4:])), int(binary.BigEndian.Uint32(b[16:]))
			body := b[56 : 56+length]
			if string(b[:4]) != "AHBF" || binary.BigEndian.Uint64(b[8:]) != uint64(len(out)) || !bytes.Equal(b[20:52], chain) || sum(b[:52]) != binary.BigEndian.Uint32(b[52:]) ||
				sum(b[:56+length]) != binary.BigEndian.Uint32(b[56+length:]) || string(b[60+length:64+length]) != "FBHA" {
				r.t.Fatalf("%s: frame at entry %d", name, len(out))
			}
			h := sha256.New()
			h.Write([]byte("anchorhold/audit/chain/1"))
			h.Write(b[:52])
			h.Write(body)
			chain = h.Sum(nil)
			for range count {
				n := int(binary.BigEndian.Uint32(body))
				out, body = append(out, body[4:4+n]), body[4+n:]
			}
			b = b[64+length:]
		}
	}
	return out
}

// checkpoint verifies both lines of a note from the audit key's bytes.
func (r reader) checkpoint(key []byte, signed []byte) tlog.Tree {
	r.t.Helper()
	mldsa, ed := key[1:1+mldsa65.PublicKeySize], key[1+mldsa65.PublicKeySize:]
	id := sha256.Sum256(append([]byte("anchorhold/identity/id/1\x00"), key...))
	name := "anchorhold/audit/" + hex.EncodeToString(id[:])
	text, sigs, _ := strings.Cut(string(signed), "\n\n")
	text += "\n"
	var public mldsa65.PublicKey
	if err := public.UnmarshalBinary(mldsa); err != nil {
		r.t.Fatal(err)
	}
	verified := 0
	for _, line := range strings.Split(strings.TrimSuffix(sigs, "\n"), "\n") {
		sig, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(line, "— "+name+" "))
		if err != nil {
			r.t.Fatal(err)
		}
		keyID := func(kind string, public []byte) []byte {
			sum := sha256.Sum256(append([]byte(name+"\n"+kind), public...))
			return sum[:4]
		}
		switch {
		case bytes.Equal(sig[:4], keyID("\x01", ed)) && ed25519.Verify(ed, []byte(text), sig[4:]),
			bytes.Equal(sig[:4], keyID("\xffanchorhold/ml-dsa-65/1\n", mldsa)) && mldsa65.Verify(&public, []byte(text), []byte("anchorhold/note/1"), sig[4:]):
			verified++
		}
	}
	f := strings.Split(text, "\n")
	size, err := strconv.ParseInt(f[1], 10, 64)
	if verified != 2 || len(f) != 4 || f[0] != name || err != nil {
		r.t.Fatalf("%d signatures of %q hold: %v", verified, text, err)
	}
	root, err := tlog.ParseHash(f[2])
	if err != nil {
		r.t.Fatal(err)
	}
	return tlog.Tree{N: size, Hash: root}
}

// TestTheFormatIsAsItIsDescribed reads a log that was written once and never
// changes, by the document's words alone, and then with this package.
func TestTheFormatIsAsItIsDescribed(t *testing.T) {
	public, err := identity.ReadPublicFile(filepath.Join("testdata", "v2", "audit.pub"))
	if err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(filepath.Join("testdata", "v2", "kept"))
	if err != nil {
		t.Fatal(err)
	}
	r := reader{t, filepath.Join("testdata", "v2", "audit")}
	records, checkpoints := r.entries("log-"), r.entries("checkpoints-")
	stored := r.file("tree")
	hashes := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			copy(out[i][:], stored[index*tlog.HashSize:])
		}
		return out, nil
	})
	last := r.checkpoint(public.Bytes(), checkpoints[len(checkpoints)-1])
	if len(records) != 20 || last.N != 20 || int64(len(stored)) != tlog.StoredHashCount(20)*tlog.HashSize {
		t.Fatalf("%d records, %d signed, %d bytes of hashes", len(records), last.N, len(stored))
	}
	for i, record := range records {
		proof, err := tlog.ProveRecord(last.N, int64(i), hashes)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(proof, last.N, last.Hash, int64(i), tlog.RecordHash(record)); err != nil {
			t.Errorf("record %d: %v", i, err)
		}
	}
	early := r.checkpoint(public.Bytes(), kept)
	proof, err := tlog.ProveTree(last.N, early.N, hashes)
	if err != nil {
		t.Fatal(err)
	}
	if err := tlog.CheckTree(proof, last.N, last.Hash, early.N, early.Hash); err != nil {
		t.Error(err)
	}
	r.index(public)
	report, err := audit.Check{Keys: []identity.Public{public}, Kept: [][]byte{kept}}.Verify(t.Context(), r.dir)
	if err != nil || report.Records != 20 || report.Kept != 1 || report.Unsigned != 0 {
		t.Errorf("%+v, %v", report, err)
	}
	vkey, err := audit.VerifierKey(public)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open(kept, note.VerifierList(verifier)); err != nil {
		t.Error(err)
	}
}

// index finds the first round's opening in the first segment's index.
func (r reader) index(public identity.Public) {
	r.t.Helper()
	b := r.file("log-0000000000000000.idx")
	count, entries := binary.BigEndian.Uint64(b[16:]), int(binary.BigEndian.Uint32(b[64:]))
	statement, length := b[:100], int(binary.BigEndian.Uint16(b[100:]))
	rows := b[102+length:]
	digest := sha256.Sum256(rows)
	if string(b[:8]) != "ahindex\x01" || count == 0 || len(rows) != 24*entries || !bytes.Equal(digest[:], b[68:100]) ||
		public.Verify("anchorhold/audit/index/1", statement, b[102:102+length]) != nil {
		r.t.Fatal("the index is not as it is described")
	}
	text := []byte("anchorhold/audit/key/1\x00\x01\x00\x0around-open\x00\x07round/0\x00\x00")
	want := sha256.Sum256(append(text, make([]byte, 32)...))
	for ; len(rows) > 0; rows = rows[24:] {
		if bytes.Equal(rows[:16], want[:16]) {
			if nth := binary.BigEndian.Uint32(rows[16:]); nth != 1 || binary.BigEndian.Uint32(rows[20:]) != 52 {
				r.t.Errorf("record %d at %d", nth, binary.BigEndian.Uint32(rows[20:]))
			}
			return
		}
	}
	r.t.Error("the first round's opening is not in the index")
}
