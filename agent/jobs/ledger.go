package jobs

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"hash"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// Each record is sealed for itself. That alone does not notice one that is missing, or
// one that was put back as it was earlier: an entry of the journal less, and a secret
// could be used twice. So the file also keeps, sealed, the exclusive or of a keyed tag
// of each entry. It follows each write at the cost of two tags, and it is never seen
// in the clear, without which tags cannot be combined to anything. What it cannot
// notice is the whole file as it was earlier.
type ledger [sha256.Size]byte

const (
	metaLedger  = "ledger"
	ledgerLabel = "anchorhold/jobs/ledger/1"
	tagLabel    = "anchorhold/jobs/tag/1"
)

// tagKey derives the key of the tags.
func tagKey(key *keybuf.Buffer) (*keybuf.Buffer, error) {
	var k []byte
	if err := key.Use(func(secret []byte) error {
		k = keybuf.Derive(secret, nil, tagLabel, sha256.Size)
		return nil
	}); err != nil {
		return nil, err
	}
	return keybuf.Take(k)
}

// turn adds an entry that is not in the ledger, and takes one out that is. Under a
// key that was wiped meanwhile the tag is wrong; then keepLedger fails, whose key
// is wiped first, and nothing is written.
func (l *ledger) turn(key *keybuf.Buffer, bucket string, name, value []byte) {
	var h hash.Hash
	if err := key.Use(func(secret []byte) error { h = hmac.New(sha256.New, secret); return nil }); err != nil {
		return
	}
	for _, field := range [][]byte{[]byte(bucket), name, value} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(field))))
		h.Write(field)
	}
	subtle.XORBytes(l[:], l[:], h.Sum(nil))
}

// set writes an entry, or with a nil value removes it, and keeps the ledger.
func (q *Queue) set(tx *bolt.Tx, bucket string, name, value []byte) error {
	b := tx.Bucket([]byte(bucket))
	if old := b.Get(name); old != nil {
		q.writing.turn(q.tags, bucket, name, old)
	}
	if value == nil {
		return b.Delete(name)
	}
	q.writing.turn(q.tags, bucket, name, value)
	return b.Put(name, value)
}

// keepLedger writes the ledger that belongs to a transaction.
func (q *Queue) keepLedger(tx *bolt.Tx) error {
	sealed, err := chunkseal.SealBlob(q.key, ledgerLabel, nil, q.writing[:])
	if err != nil {
		return err
	}
	return tx.Bucket([]byte(bucketMeta)).Put([]byte(metaLedger), sealed)
}

// checkLedger goes through all entries and refuses if one is missing, more, or old.
func (q *Queue) checkLedger(tx *bolt.Tx) error {
	want, err := chunkseal.OpenBlob(q.key, ledgerLabel, nil, tx.Bucket([]byte(bucketMeta)).Get([]byte(metaLedger)))
	if err != nil {
		return damaged(err, "the ledger does not open")
	}
	var found ledger
	for _, bucket := range []string{bucketJobs, bucketOnce} {
		if err := tx.Bucket([]byte(bucket)).ForEach(func(name, value []byte) error {
			found.turn(q.tags, bucket, name, value)
			return nil
		}); err != nil {
			return err
		}
	}
	if !hmac.Equal(found[:], want) {
		return damaged(nil, "an entry was removed, added, or put back as it was earlier")
	}
	q.writing = found
	return nil
}
