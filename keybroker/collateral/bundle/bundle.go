package bundle

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
)

// Context is the signing context of a bundle's list.
const Context = "anchorhold/collateral/bundle/1"

// Limits of a bundle.
const (
	MaxItems     = 65536
	maxListBytes = 32 << 20
)

// maxSignatureBytes and maxIdentityBytes are more than the largest have.
const (
	maxSignatureBytes = 16 << 10
	maxIdentityBytes  = 8 << 10
)

// Entry is one item of the list.
type Entry struct {
	Key    collateral.Key
	Size   uint32
	Digest [32]byte
}

// List is what a bundle says of itself and what is signed.
type List struct {
	Made    time.Time
	Signer  identity.Public
	Entries []Entry
}

// compare is the order of keys in a bundle: what others are verified with comes first.
func compare(a, b collateral.Key) int {
	kinds := collateral.Kinds()
	if d := slices.Index(kinds, a.Kind()) - slices.Index(kinds, b.Kind()); d != 0 {
		return d
	}
	return strings.Compare(a.String(), b.String())
}

// marshal is the list as it is signed.
func (l List) marshal() ([]byte, error) {
	if len(l.Entries) > MaxItems {
		return nil, refusal.New(collateral.ReasonTooLarge, "a bundle has at most %d items, got %d", MaxItems, len(l.Entries))
	}
	var b cryptobyte.Builder
	bytesOf := func(v []byte) func(*cryptobyte.Builder) { return func(b *cryptobyte.Builder) { b.AddBytes(v) } }
	b.AddUint8LengthPrefixed(bytesOf([]byte(Context)))
	b.AddUint64(uint64(l.Made.UnixMilli()))
	b.AddUint16LengthPrefixed(bytesOf(l.Signer.Bytes()))
	b.AddUint32(uint32(len(l.Entries)))
	for i, e := range l.Entries {
		if i > 0 && compare(l.Entries[i-1].Key, e.Key) >= 0 {
			return nil, refusal.New(collateral.ReasonBundle, "%s is out of order or there twice", e.Key)
		}
		b.AddUint8LengthPrefixed(bytesOf([]byte(e.Key.String())))
		b.AddUint32(e.Size)
		b.AddBytes(e.Digest[:])
	}
	out, err := b.Bytes()
	if err == nil && len(out) > maxListBytes {
		err = refusal.New(collateral.ReasonTooLarge, "the list has %d bytes, at most %d are allowed", len(out), maxListBytes)
	}
	return out, err
}

// Write writes a bundle of the items of these keys, which load reads. It reads each item twice,
// once for the list, so that no more than one is in memory.
func Write(w io.Writer, keys []collateral.Key, load func(collateral.Key) (collateral.Item, error), signer *identity.Private, made time.Time) (List, error) {
	l := List{Made: made.UTC().Truncate(time.Millisecond), Signer: signer.Public()}
	keys = slices.SortedFunc(slices.Values(keys), compare)
	encoded := func(k collateral.Key) ([]byte, error) {
		it, err := load(k)
		if err != nil {
			return nil, err
		}
		return it.Marshal()
	}
	for _, k := range keys {
		data, err := encoded(k)
		if err != nil {
			return List{}, err
		}
		l.Entries = append(l.Entries, Entry{k, uint32(len(data)), sha256.Sum256(data)})
	}
	head, err := l.marshal()
	if err != nil {
		return List{}, err
	}
	signature, err := signer.Sign(Context, head)
	if err != nil {
		return List{}, err
	}
	buf := bufio.NewWriter(w)
	_, err = buf.Write(append(binary.BigEndian.AppendUint16(head, uint16(len(signature))), signature...))
	for i, k := range keys {
		if err != nil {
			return List{}, err
		}
		data, lerr := encoded(k)
		if lerr == nil && sha256.Sum256(data) != l.Entries[i].Digest {
			lerr = errors.New(k.String() + " was replaced meanwhile: export again")
		}
		if lerr != nil {
			return List{}, lerr
		}
		_, err = buf.Write(data)
	}
	return l, errors.Join(err, buf.Flush())
}

// Read reads a bundle that one of the trusted identities signed, and calls visit with each item in
// its order. Without trusted identities everything is refused. What visit returns ends the
// reading. An item that was visited is as it was listed, and no more is known of it.
func Read(r io.Reader, trusted []identity.Public, visit func(collateral.Item) error) (List, error) {
	in := bufio.NewReader(r)
	l, err := readList(in, trusted)
	if err != nil {
		return List{}, err
	}
	for _, e := range l.Entries {
		data := make([]byte, e.Size)
		if _, err := io.ReadFull(in, data); err != nil {
			return List{}, refusal.New(collateral.ReasonBundle, "%s is cut short: %w", e.Key, err)
		}
		if sha256.Sum256(data) != e.Digest {
			return List{}, refusal.New(collateral.ReasonBundle, "%s is not the listed one", e.Key)
		}
		it, err := collateral.ParseItem(data)
		if err == nil && it.Key != e.Key {
			err = refusal.New(collateral.ReasonBundle, "%s is listed as %s", it.Key, e.Key)
		}
		if err == nil {
			err = visit(it)
		}
		if err != nil {
			return List{}, err
		}
	}
	if _, err := in.ReadByte(); err != io.EOF {
		return List{}, refusal.New(collateral.ReasonBundle, "something follows the last item")
	}
	return l, nil
}

// readList reads and verifies the list.
func readList(in *bufio.Reader, trusted []identity.Public) (List, error) {
	head := &recorder{from: in, limit: maxListBytes}
	label := head.prefixed(1, len(Context))
	_, long := refusal.ReasonOf(head.err) // the first byte is no length of a label
	if (head.err == nil || long) && string(label) != Context {
		return List{}, refusal.New(collateral.ReasonBundle, "this is no bundle of collateral, or of another version")
	}
	made, id, count := head.number(8), head.prefixed(2, maxIdentityBytes), head.number(4)
	if head.err != nil || count > MaxItems || made > 1<<50 {
		return List{}, head.malformed("no list")
	}
	signer, err := identity.ParsePublic(id)
	if err != nil {
		return List{}, refusal.New(collateral.ReasonBundle, "%w", err)
	}
	if !slices.ContainsFunc(trusted, signer.Equal) {
		return List{}, refusal.New(collateral.ReasonBundleSigner, "signed by %s, who is not among the %d that are trusted", signer, len(trusted))
	}
	l := List{Made: time.UnixMilli(int64(made)).UTC(), Signer: signer}
	type raw struct {
		key    []byte
		size   uint64
		digest []byte
	}
	var entries []raw
	for range count {
		e := raw{head.prefixed(1, 255), head.number(4), head.bytes(sha256.Size)}
		if head.err != nil {
			return List{}, head.malformed("the list is cut short")
		}
		entries = append(entries, e)
	}
	signed := bytes.Clone(head.read.Bytes())
	signature := head.prefixed(2, maxSignatureBytes)
	if head.err != nil {
		return List{}, head.malformed("no signature")
	}
	if err := signer.Verify(Context, signed, signature); err != nil {
		return List{}, refusal.New(collateral.ReasonBundleSigner, "%w", err)
	}
	for _, e := range entries {
		key, err := collateral.ParseKey(string(e.key))
		if err != nil {
			return List{}, err
		}
		if e.size > collateral.MaxItemBytes {
			return List{}, refusal.New(collateral.ReasonTooLarge, "%s has %d bytes", key, e.size)
		}
		l.Entries = append(l.Entries, Entry{key, uint32(e.size), [32]byte(e.digest)})
	}
	canonical, err := l.marshal()
	if err == nil && !bytes.Equal(canonical, signed) {
		err = refusal.New(collateral.ReasonBundle, "the list is not canonical")
	}
	return l, err
}

// recorder reads fields of a bounded total and remembers all of them. After an error it reads
// nothing more.
type recorder struct {
	from  io.Reader
	limit int
	read  bytes.Buffer
	err   error
}

func (r *recorder) bytes(n int) []byte {
	if r.err != nil {
		return nil
	}
	if r.read.Len()+n > r.limit {
		r.err = refusal.New(collateral.ReasonTooLarge, "the list has more than %d bytes", r.limit)
		return nil
	}
	b := make([]byte, n)
	if _, r.err = io.ReadFull(r.from, b); r.err != nil {
		return nil
	}
	r.read.Write(b) // a buffer takes everything
	return b
}

func (r *recorder) number(size int) (n uint64) {
	for _, b := range r.bytes(size) {
		n = n<<8 | uint64(b)
	}
	return n
}

func (r *recorder) prefixed(size, most int) []byte {
	n := r.number(size)
	if r.err == nil && n > uint64(most) {
		r.err = refusal.New(collateral.ReasonBundle, "a field has %d bytes, at most %d are allowed", n, most)
	}
	return r.bytes(int(n))
}

func (r *recorder) malformed(what string) error {
	if _, is := refusal.ReasonOf(r.err); is {
		return r.err
	}
	if r.err != nil {
		return refusal.New(collateral.ReasonBundle, "%s: %w", what, r.err)
	}
	return refusal.New(collateral.ReasonBundle, "%s", what)
}
