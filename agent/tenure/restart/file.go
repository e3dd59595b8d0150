package restart

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// The sealed file: a label, the handle of its key, the permit's chain, and the keys sealed under both.
const (
	fileLabel    = "anchorhold/local-restart/1"
	blobLabel    = "anchorhold/local-restart/1/keys"
	maxFileBytes = 160 << 10
)

// sealedFile is what is on the disk. Nothing in it is secret but what the blob holds.
type sealedFile struct {
	handle []byte
	chain  []byte // a permit's, without a restart
	blob   []byte
}

func (f sealedFile) marshal() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(fileLabel)) })
	for _, part := range [][]byte{f.handle, f.chain, f.blob} {
		b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(part) })
	}
	out, err := b.Bytes()
	if err == nil && len(out) > maxFileBytes {
		return nil, refusal.New(ReasonFile, "%d bytes, the limit is %d", len(out), maxFileBytes)
	}
	return out, err
}

func parseFile(raw []byte) (f sealedFile, err error) {
	s := cryptobyte.String(raw)
	var label, handle, chain, blob cryptobyte.String
	if len(raw) > maxFileBytes || !s.ReadUint8LengthPrefixed(&label) || string(label) != fileLabel || !s.ReadUint24LengthPrefixed(&handle) ||
		!s.ReadUint24LengthPrefixed(&chain) || !s.ReadUint24LengthPrefixed(&blob) || !s.Empty() {
		return f, refusal.New(ReasonFile, "truncated, trailing bytes, over a limit or of another version")
	}
	return sealedFile{handle, chain, blob}, nil
}

// aad binds the keys to the permit and to the handle.
func (f sealedFile) aad() []byte {
	var b cryptobyte.Builder
	for _, part := range [][]byte{f.handle, f.chain} {
		b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(part) })
	}
	return b.BytesOrPanic() // both are far below their lengths' limits
}

// readLimited reads a file of at most so many bytes.
func readLimited(path string, limit int64) (data []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, limit+1))
}

// content is what is sealed: the restart key, and the permit's keys.
type content struct {
	restart *identity.Private
	keys    map[string]client.Key
}

// wipe may be called on nil, and more than once.
func (c *content) wipe() {
	if c == nil {
		return
	}
	if c.restart != nil {
		c.restart.Wipe()
	}
	for _, k := range c.keys {
		k.Key.Wipe()
	}
}

// encode puts the content into one buffer of locked memory. A key that was wiped meanwhile is an error.
func (c *content) encode(permit protocol.Permit) (*keybuf.Buffer, error) {
	seed := c.restart.Seed()
	size := 2 + seed.Len()
	for _, k := range permit.Keys {
		size += 1 + len(k.Resource) + 8 + 32 + 2 + c.keys[k.Resource].Key.Len()
	}
	out := make([]byte, 0, size) // never grows: a copy of it would stay behind
	b := cryptobyte.NewFixedBuilder(out)
	add := func(k *keybuf.Buffer) error {
		return k.Use(func(secret []byte) error {
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(secret) })
			return nil
		})
	}
	err := add(seed)
	for _, p := range permit.Keys {
		k, ok := c.keys[p.Resource]
		if !ok || k.Version != p.Version {
			err = errors.Join(err, refusal.New(ReasonFile, "the lease has no version %d of %s", p.Version, p.Resource))
			continue
		}
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(p.Resource)) })
		b.AddUint64(k.Version)
		b.AddBytes(k.Subject[:])
		err = errors.Join(err, add(k.Key))
	}
	whole, failed := b.Bytes()
	if err = errors.Join(err, failed); err != nil {
		keybuf.Wipe(out[:cap(out)])
		return nil, err
	}
	return keybuf.Take(whole)
}

// decode reads the content, and requires exactly the permit's keys. It wipes the plaintext.
func decode(plaintext []byte, permit protocol.Permit) (c *content, err error) {
	defer keybuf.Wipe(plaintext)
	s := cryptobyte.String(plaintext)
	c = &content{keys: map[string]client.Key{}}
	defer func() {
		if err != nil {
			c.wipe()
			c = nil
		}
	}()
	bad := refusal.New(ReasonFile, "what was sealed is not the permit's keys")
	take := func() (*keybuf.Buffer, error) {
		var secret cryptobyte.String
		if !s.ReadUint16LengthPrefixed(&secret) || len(secret) == 0 || len(secret) > protocol.MaxKeyBytes {
			return nil, bad
		}
		return keybuf.Take(secret)
	}
	seed, err := take()
	if err != nil {
		return c, err
	}
	if c.restart, err = identity.FromSeed(identity.LevelEpoch, seed); err != nil { // it takes the seed, or wipes it
		return c, err
	}
	if !c.restart.Public().Equal(permit.RestartKey) {
		return c, bad
	}
	for _, p := range permit.Keys {
		var name cryptobyte.String
		k := client.Key{}
		if !s.ReadUint8LengthPrefixed(&name) || string(name) != p.Resource || !s.ReadUint64(&k.Version) || k.Version != p.Version || !s.CopyBytes(k.Subject[:]) {
			return c, bad
		}
		if k.Key, err = take(); err != nil {
			return c, err
		}
		c.keys[p.Resource] = k
	}
	if !s.Empty() {
		return c, bad
	}
	return c, nil
}

// seal makes the file of a permit's keys.
func seal(ctx context.Context, sealer Sealer, chain protocol.PermitChain, permit protocol.Permit, c *content) ([]byte, error) {
	var f sealedFile
	var err error
	if f.chain, err = chain.Marshal(); err != nil {
		return nil, err
	}
	opens := permit.Restarts
	if !permit.Sealing.Counts() {
		opens = 1 // nothing counts it
	}
	secret, handle, err := sealer.New(ctx, opens)
	if err != nil {
		return nil, err
	}
	key, err := keybuf.Take(secret)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	f.handle = handle
	plaintext, err := c.encode(permit)
	if err != nil {
		return nil, err
	}
	defer plaintext.Wipe()
	err = plaintext.Use(func(p []byte) error {
		f.blob, err = chunkseal.SealBlob(key, blobLabel, f.aad(), p)
		return err
	})
	if err != nil {
		return nil, err
	}
	return f.marshal()
}

// open opens the file with its key, which is wiped.
func (f sealedFile) open(secret []byte, permit protocol.Permit) (*content, error) {
	key, err := keybuf.Take(secret)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	plaintext, err := chunkseal.OpenBlob(key, blobLabel, f.aad(), f.blob)
	if err != nil {
		return nil, refusal.New(ReasonFile, "another guest sealed it, or it was changed: %w", err)
	}
	return decode(plaintext, permit)
}

// remove removes a file; one that is not there is removed.
func remove(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, disk.SyncDir(filepath.Dir(path)))
}
