package chunkseal

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// signer stands in for an identity: one Ed25519 key, whose signatures are
// deterministic, as the vectors need.
type signer struct{ key ed25519.PrivateKey }

func newSigner(seed byte) signer {
	return signer{ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))}
}

func (s signer) Bytes() []byte { return s.key.Public().(ed25519.PublicKey) }

func (s signer) Verify(label string, msg, sig []byte) error {
	if !ed25519.Verify(s.key.Public().(ed25519.PublicKey), append([]byte(label), msg...), sig) {
		return errors.New("bad signature")
	}
	return nil
}

func (s signer) sign(root []byte) ([]byte, []byte, error) {
	return s.Bytes(), ed25519.Sign(s.key, append([]byte(SignContext), root...)), nil
}

// memory is a file in memory.
type memory struct {
	b  []byte
	at int64
}

func (m *memory) Write(p []byte) (int, error) {
	if grow := m.at + int64(len(p)) - int64(len(m.b)); grow > 0 {
		m.b = append(m.b, make([]byte, grow)...)
	}
	copy(m.b[m.at:], p)
	m.at += int64(len(p))
	return len(p), nil
}

func (m *memory) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekStart {
		return 0, errors.New("only from the start")
	}
	m.at = offset
	return offset, nil
}

func fixedKey(t testing.TB, fill byte) *keybuf.Buffer {
	t.Helper()
	k, err := keybuf.Take(bytes.Repeat([]byte{fill}, KeySize))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

var testManifest = Manifest{Name: "demo/model", Version: 7, ParameterSets: []string{"sealed-model/1", "receipts/1"}}

// testSections are a header, a matrix whose last chunk is shorter, a vector,
// and a matrix whose chunk and tag fill whole slots without padding.
func testSections() []Section {
	return []Section{
		{Name: "[gguf-header]", Kind: KindMetadata, Rows: 1, Cols: 100, Chunks: 1, ChunkBytes: 100, LastBytes: 100},
		{Name: "token_embd.weight", Kind: KindTiles, Type: 5, Rows: 40, Cols: 64, RowsPerChunk: 16, Chunks: 3, ChunkBytes: 1088, LastBytes: 1000},
		{Name: "norm", Kind: KindVector, Rows: 1, Cols: 8, RowsPerChunk: 1, Chunks: 1, ChunkBytes: 32, LastBytes: 32},
		{Name: "output.weight", Kind: KindTiles, Type: 1, Rows: 16, Cols: 32, RowsPerChunk: 16, Chunks: 2, ChunkBytes: 2*slotBytes - tagSize, LastBytes: slotBytes - tagSize},
	}
}

// plaintext is chunk i of the test file.
func plaintext(i, n int) []byte {
	b := make([]byte, 0, n+32)
	for j := 0; len(b) < n; j++ {
		sum := sha256.Sum256([]byte(fmt.Sprintf("chunk %d block %d", i, j)))
		b = append(b, sum[:]...)
	}
	return b[:n]
}

func writeFile(t testing.TB, key *keybuf.Buffer, id [32]byte, m Manifest, sections []Section, sign SignFunc) ([]byte, Summary) {
	t.Helper()
	var out memory
	w, err := newWriter(&out, key, id, m, sections)
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	for _, s := range sections {
		for inner := range int(s.Chunks) {
			if err := w.WriteChunk(plaintext(i, s.size(inner))); err != nil {
				t.Fatal(err)
			}
			i++
		}
	}
	sum, err := w.Close(sign)
	if err != nil {
		t.Fatal(err)
	}
	if sum.Bytes != int64(len(out.b)) || sum.Chunks != i {
		t.Errorf("summary %+v of %d bytes, %d chunks", sum, len(out.b), i)
	}
	return out.b, sum
}

func fixedID(fill byte) [32]byte { return [32]byte(bytes.Repeat([]byte{fill}, 32)) }

func testFile(t testing.TB) []byte {
	t.Helper()
	b, _ := writeFile(t, fixedKey(t, 1), fixedID(2), testManifest, testSections(), newSigner(3).sign)
	return b
}

func openFile(t testing.TB, b []byte) (*Reader, error) {
	t.Helper()
	return Open(bytes.NewReader(b), int64(len(b)), fixedKey(t, 1), OpenOptions{Publisher: newSigner(3), Name: testManifest.Name, MinVersion: 7})
}

// readAll opens the file and every chunk, and returns the first refusal.
func readAll(t testing.TB, b []byte) error {
	t.Helper()
	r, err := openFile(t, b)
	if err != nil {
		return err
	}
	for i := range r.Public().Chunks {
		got, err := r.OpenChunk(make([]byte, r.ChunkSize(i)), i)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, plaintext(i, r.ChunkSize(i))) {
			t.Fatalf("chunk %d opens to other bytes", i)
		}
	}
	return nil
}

func wantReason(t *testing.T, err error, reason refusal.Reason) {
	t.Helper()
	if got, _ := refusal.ReasonOf(err); got != reason {
		t.Errorf("have %v, want %s", err, reason)
	}
}

func TestFileRoundTrip(t *testing.T) {
	b := testFile(t)
	if err := readAll(t, b); err != nil {
		t.Fatal(err)
	}
	r, err := openFile(t, b)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(r.Sections(), testSections()) || r.First(3) != 5 {
		t.Errorf("sections %+v", r.Sections())
	}
	p := r.Public()
	if p.Name != "demo/model" || p.Version != 7 || len(p.ParameterSets) != 2 || p.Sections != 4 || p.Chunks != 7 ||
		p.FileID != fixedID(2) || !bytes.Equal(p.Publisher, newSigner(3).Bytes()) || p.PlainBytes != 100+2*1088+1000+32+12288-32 {
		t.Errorf("public part: %+v", p)
	}
	// In place, a second time, and in any order.
	for _, i := range []int{6, 0, 3, 3} {
		offset, size := r.Slot(i)
		slot := bytes.Clone(b[offset : offset+int64(size)])
		got, err := r.OpenSlot(slot, slot, i)
		if err != nil || !bytes.Equal(got, plaintext(i, r.ChunkSize(i))) || &got[0] != &slot[0] {
			t.Errorf("chunk %d in place: %v", i, err)
		}
	}
}

// TestEveryFlippedBitIsANamedFailure flips one bit in every byte of the first
// fields and of the tail, and in bytes 31 apart of everything else.
func TestEveryFlippedBitIsANamedFailure(t *testing.T) {
	b := testFile(t)
	head, err := parseHeader(b[:blockBytes], int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[refusal.Reason]bool{}
	for i := range b {
		if i > headerFields && i < int(head.tail) && i%31 != 0 {
			continue
		}
		b[i] ^= 1 << (i % 8)
		err := readAll(t, b)
		f, ok := errors.AsType[*Failure](err)
		if !ok {
			t.Fatalf("byte %d: %v", i, err)
		}
		seen[f.Err.Reason] = true
		inChunks := i >= blockBytes && i < int(head.tail)
		if inChunks != (f.Chunk >= 0) || inChunks && f.Tensor == "" {
			t.Fatalf("byte %d: failure %v", i, f)
		}
		b[i] ^= 1 << (i % 8)
	}
	for _, want := range []refusal.Reason{ReasonNotSealed, ReasonFormat, ReasonMalformed, ReasonRoot, ReasonPublisher, ReasonSignature, ReasonDigest, ReasonPadding, ReasonTruncated} {
		if !seen[want] {
			t.Errorf("no flipped bit gave %s", want)
		}
	}
}

func TestEveryTruncationIsRefused(t *testing.T) {
	b := testFile(t)
	for n := range b {
		if n > blockBytes && n < len(b)-4096 && n%509 != 0 {
			continue // between the first block and the tail all cuts are alike
		}
		_, err := openFile(t, b[:n])
		want := ReasonTruncated
		if n < blockBytes {
			want = ReasonNotSealed
		}
		if got, _ := refusal.ReasonOf(err); got != want {
			t.Fatalf("cut at %d: %v, want %s", n, err, want)
		}
	}
}

func TestTrailingBytesAreRefused(t *testing.T) {
	for _, n := range []int{1, 4096, 64 << 10} {
		_, err := openFile(t, append(testFile(t), make([]byte, n)...))
		wantReason(t, err, ReasonTrailing)
	}
}

func TestSwappedAndReorderedChunksAreNamed(t *testing.T) {
	b := testFile(t)
	r, err := openFile(t, b)
	if err != nil {
		t.Fatal(err)
	}
	one, size := r.Slot(1)
	two, _ := r.Slot(2)
	x, y := b[one:one+int64(size)], b[two:two+int64(size)]
	save := bytes.Clone(x)
	copy(x, y)
	copy(y, save)
	for _, i := range []int{1, 2} {
		_, err := r.OpenChunk(make([]byte, 4096), i)
		f, ok := errors.AsType[*Failure](err)
		if !ok || f.Err.Reason != ReasonMisplaced || f.Chunk != i || f.Tensor != "token_embd.weight" {
			t.Errorf("swapped chunk %d: %v", i, err)
		}
	}
}

// TestTagAloneRefusesWhatTheDigestNoLongerChecks: after the first use a chunk
// is authenticated by its tag, which binds place, section and file.
func TestTagAloneRefusesWhatTheDigestNoLongerChecks(t *testing.T) {
	b := testFile(t)
	r, err := openFile(t, b)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := writeFile(t, fixedKey(t, 1), fixedID(9), testManifest, testSections(), newSigner(3).sign)
	for i := range 7 {
		if _, err := r.OpenChunk(make([]byte, 8192), i); err != nil {
			t.Fatal(err)
		}
	}
	slot := func(b []byte, i int) []byte {
		offset, size := r.Slot(i)
		return bytes.Clone(b[offset : offset+int64(size)])
	}
	flipped := slot(b, 1)
	flipped[5] ^= 4
	dst := make([]byte, 8192)
	for name, s := range map[string][]byte{"flipped": flipped, "neighbour": slot(b, 2), "other file": slot(other, 1)} {
		if _, err := r.OpenSlot(dst, s, 1); err == nil {
			t.Errorf("%s: opened", name)
		} else {
			wantReason(t, err, ReasonTag)
		}
	}
	padded := slot(b, 1)
	padded[len(padded)-1] = 1
	_, err = r.OpenSlot(dst, padded, 1)
	wantReason(t, err, ReasonPadding)
}

// TestSectionIsBound: a file whose publisher describes another section over the
// same chunk does not open it, whichever field differs.
func TestSectionIsBound(t *testing.T) {
	s := testSections()[1]
	want := sectionDigest(fixedID(2), 1, s)
	changes := []func(*Section){
		func(s *Section) { s.Name = "x" }, func(s *Section) { s.Kind = KindVector }, func(s *Section) { s.Type++ },
		func(s *Section) { s.Rows++ }, func(s *Section) { s.Cols++ }, func(s *Section) { s.RowsPerChunk++ },
		func(s *Section) { s.Chunks++ }, func(s *Section) { s.ChunkBytes++ }, func(s *Section) { s.LastBytes++ },
	}
	for i, change := range changes {
		other := s
		change(&other)
		if sectionDigest(fixedID(2), 1, other) == want {
			t.Errorf("change %d is not bound", i)
		}
	}
	if sectionDigest(fixedID(3), 1, s) == want || sectionDigest(fixedID(2), 2, s) == want {
		t.Error("file id or place is not bound")
	}
	var a, b sealingContext
	a.set(&want, 1, 1, 1)
	for _, c := range [][3]int{{2, 1, 1}, {1, 2, 1}, {1, 1, 2}} {
		b.set(&want, c[0], c[1], c[2])
		if a.aad == b.aad || (a.nonce == b.nonce) != (c[0] == 1) {
			t.Errorf("chunk %v has the context of another", c)
		}
	}
}

func TestOpenRefusesTheUnacceptable(t *testing.T) {
	b := testFile(t)
	root := [32]byte{}
	cases := []struct {
		reason refusal.Reason
		key    byte
		opt    OpenOptions
	}{
		{ReasonPublisher, 1, OpenOptions{}},
		{ReasonPublisher, 1, OpenOptions{Publisher: newSigner(4)}},
		{ReasonName, 1, OpenOptions{Publisher: newSigner(3), Name: "demo"}},
		{ReasonRollback, 1, OpenOptions{Publisher: newSigner(3), MinVersion: 8}},
		{ReasonModelID, 1, OpenOptions{Publisher: newSigner(3), ModelID: &root}},
		{ReasonKey, 5, OpenOptions{Publisher: newSigner(3)}},
	}
	for _, c := range cases {
		_, err := Open(bytes.NewReader(b), int64(len(b)), fixedKey(t, c.key), c.opt)
		wantReason(t, err, c.reason)
	}
	short, err := keybuf.New(16)
	if err != nil {
		t.Fatal(err)
	}
	defer short.Wipe()
	if _, err := Open(bytes.NewReader(b), int64(len(b)), short, OpenOptions{Publisher: newSigner(3)}); !errors.Is(err, ErrKeySize) {
		t.Errorf("short key: %v", err)
	}
}

// resign rebuilds the tail of a file after a change, as a publisher who holds
// the signing key but makes mistakes, or does not hold the model key.
func resign(t *testing.T, b []byte, change func(block, public, index, sealed []byte)) []byte {
	t.Helper()
	head, err := parseHeader(b[:blockBytes], int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	tail := b[head.tail:]
	public := tail[:head.public]
	index := tail[head.public:][:int(head.chunks)*indexEntry]
	sealed := tail[int(head.public)+len(index):][:head.sealed]
	change(b[:blockBytes], public, index, sealed)
	root := rootOf(b[:blockBytes], public, index, sealed)
	publisher, sig, err := newSigner(3).sign(root[:])
	if err != nil {
		t.Fatal(err)
	}
	end := int64(head.tail) + head.tailBytes()
	return append(b[:end:end], signatureBlock(root, publisher, sig)...)
}

func TestSignedNonsenseIsStillRefused(t *testing.T) {
	cases := map[string]struct {
		reason refusal.Reason
		change func(block, public, index, sealed []byte)
	}{
		"commitment":      {ReasonKey, func(b, _, _, _ []byte) { b[56] ^= 1 }},
		"file id":         {ReasonKey, func(b, _, _, _ []byte) { b[24] ^= 1 }},
		"reserved bytes":  {ReasonMalformed, func(b, _, _, _ []byte) { b[blockBytes-1] = 1 }},
		"sealed manifest": {ReasonManifest, func(_, _, _, s []byte) { s[0] ^= 1 }},
		"public manifest": {ReasonManifest, func(_, p, _, _ []byte) { p[len("demo/model")+2] ^= 0x80 }}, // version: higher
		"name":            {ReasonMalformed, func(_, p, _, _ []byte) { p[2] = ' ' }},
		"sections":        {ReasonManifest, func(_, p, _, _ []byte) { p[len(p)-12]++ }},
		"plain bytes":     {ReasonMalformed, func(_, p, _, _ []byte) { p[len(p)-8]++ }},
		"chunk size":      {ReasonMalformed, func(_, _, i, _ []byte) { i[0]++ }},
		"chunk size zero": {ReasonMalformed, func(_, _, i, _ []byte) { clear(i[:4]) }},
		"digest":          {ReasonDigest, func(_, _, i, _ []byte) { i[4]++ }},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			wantReason(t, readAll(t, resign(t, testFile(t), c.change)), c.reason)
		})
	}
	// The same without a change opens: resign itself is right.
	if err := readAll(t, resign(t, testFile(t), func(_, _, _, _ []byte) {})); err != nil {
		t.Error(err)
	}
}

func TestKeylessVerificationCoversEveryChunk(t *testing.T) {
	b := testFile(t)
	p, err := Inspect(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	last := 0
	if err := errors.Join(p.Verify(newSigner(3)), p.VerifyChunks(t.Context(), func(done, _ int) { last = done })); err != nil || last != 7 {
		t.Fatalf("%v after %d chunks", err, last)
	}
	offset, _ := p.Slot(5)
	b[offset+77] ^= 1
	wantReason(t, p.VerifyChunks(t.Context(), nil), ReasonDigest)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.VerifyChunks(ended, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// brokenStorage fails from an offset on.
type brokenStorage struct {
	b    []byte
	from int64
}

var errStorage = errors.New("storage gone")

func (s brokenStorage) ReadAt(p []byte, offset int64) (int, error) {
	if offset >= s.from {
		return 0, errStorage
	}
	return bytes.NewReader(s.b).ReadAt(p, offset)
}

func TestStorageErrorsAreNamed(t *testing.T) {
	b := testFile(t)
	for _, from := range []int64{0, blockBytes} {
		_, err := Inspect(brokenStorage{b, from}, int64(len(b)))
		wantReason(t, err, ReasonUnreadable)
		if !errors.Is(err, errStorage) {
			t.Error(err)
		}
	}
	r, err := openFile(t, b)
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, r.Locate(errStorage, 2), ReasonUnreadable)
	wantReason(t, r.Locate(io.ErrUnexpectedEOF, 2), ReasonTruncated)
	for _, i := range []int{-1, 7} {
		if _, err := r.OpenChunk(nil, i); err == nil {
			t.Error("a chunk that is not there")
		}
		if _, err := r.OpenSlot(nil, nil, i); err == nil {
			t.Error("a slot that is not there")
		}
	}
	if _, err := r.OpenSlot(make([]byte, 10), make([]byte, 4096), 1); err == nil {
		t.Error("a chunk opened into too little memory")
	}
}

func TestFailureSaysWhereAndWhy(t *testing.T) {
	f := &Failure{Chunk: 3, Tensor: "blk.0.attn_q.weight", Err: Refuse(ReasonTag, "no: %w", errStorage).Err}
	if want := "sealed file, chunk 3 of blk.0.attn_q.weight: chunk-authentication: no: storage gone"; f.Error() != want {
		t.Errorf("%q", f.Error())
	}
	if _, ok := refusal.ReasonOf(errStorage); ok {
		t.Error("a reason without a failure")
	}
}
