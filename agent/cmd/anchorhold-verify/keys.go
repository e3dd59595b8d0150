package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/crypto/zk/plonkverify"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// Reasons of this package.
const (
	// ReasonMalformed: not the canonical form of an envelope.
	ReasonMalformed refusal.Reason = "envelope-malformed"
	// ReasonKeyUnknown: no file holds the key that the envelope names.
	ReasonKeyUnknown refusal.Reason = "key-unknown"
	// ReasonKeyMalformed: the key's file is not a key, or not the one that its name says.
	ReasonKeyMalformed refusal.Reason = "key-malformed"
	// ReasonKeyUnregistered: no record says what the key is for.
	ReasonKeyUnregistered refusal.Reason = "key-unregistered"
	// ReasonKeyDevelopment: the key's maker could forge proofs.
	ReasonKeyDevelopment refusal.Reason = "key-development"
	// ReasonStatement: the statement is not one that the key's circuit proves.
	ReasonStatement refusal.Reason = "statement-mismatch"
	// ReasonModel: the statement is of another model than the one asked for.
	ReasonModel refusal.Reason = "model-mismatch"
	// ReasonProof: the proof does not prove the statement.
	ReasonProof refusal.Reason = "proof-invalid"
	// ReasonTimeout: the time was over before the answer was known.
	ReasonTimeout refusal.Reason = "timeout"
)

// Names of files in a directory: the verifying key's digest or the circuit's, and these.
const (
	keySuffix    = ".vk"
	recordSuffix = ".record.json"
)

// Limits on files.
const (
	maxKeyBytes = max(groth16verify.MaxKeyBytes, plonkverify.MaxKeyBytes)
	maxEntries  = 4096 // of a directory
)

// Options are what the caller asks for and allows.
type Options struct {
	// Model is the model that statements must be of; nil is any.
	Model *statement.Digest
	// Unregistered allows keys without a record, of which nobody says which circuit they
	// are of. Development allows keys whose maker could forge proofs.
	Unregistered, Development bool
}

// Keys are verifying keys and their records. A key is read when it is first needed. It is
// for one goroutine.
type Keys struct {
	options Options
	files   map[statement.Digest]string
	records map[statement.Digest]*statement.Record // by verifying key
	ready   map[statement.Digest]verifier
}

// verifier is a key of one proof system.
type verifier interface {
	VerifyEnvelope(ctx context.Context, e *statement.Envelope) error
}

// NewKeys returns an empty set.
func NewKeys(o Options) *Keys {
	return &Keys{options: o, files: map[statement.Digest]string{}, records: map[statement.Digest]*statement.Record{}, ready: map[statement.Digest]verifier{}}
}

// AddKeys adds a verifying key's file of any name, or the files of a directory that are
// named as package crypto/zk/keyset names them, with their records.
func (k *Keys) AddKeys(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		raw, err := readBounded(path, maxKeyBytes)
		if err != nil {
			return err
		}
		k.files[sha256.Sum256(raw)] = path
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close() // read only
	names, err := d.Readdirnames(maxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if len(names) > maxEntries {
		return fmt.Errorf("%s has more than %d files; name the key files themselves", path, maxEntries)
	}
	for _, name := range names {
		if stem, ok := strings.CutSuffix(name, keySuffix); ok {
			digest, err := statement.ParseDigest(stem)
			if err != nil {
				return fmt.Errorf("%s: a key in a directory must be named by its digest", filepath.Join(path, name))
			}
			k.files[digest] = filepath.Join(path, name)
		} else if strings.HasSuffix(name, recordSuffix) {
			if err := k.AddRecord(filepath.Join(path, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// AddRecord adds a record's file, in either form.
func (k *Keys) AddRecord(path string) error {
	raw, err := readBounded(path, statement.MaxRecordBytes)
	if err != nil {
		return err
	}
	r, err := statement.OpenRecord(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if other, known := k.records[r.VerifyingKey]; known {
		a, err := other.Digest()
		b, err2 := r.Digest()
		if err != nil || err2 != nil || a != b {
			return fmt.Errorf("%s: another record contradicts this one about key %s; remove one of them", path, r.VerifyingKey)
		}
	}
	k.records[r.VerifyingKey] = r
	return nil
}

func readBounded(path string, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // read only
	raw, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(raw) > limit {
		err = fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return raw, err
}

// Verify verifies an envelope and returns the record of its key, which is the zero record
// if the key has none and that is allowed. An error is an *refusal.Error, or the
// context's if it was cancelled.
func (k *Keys) Verify(ctx context.Context, e *statement.Envelope) (statement.Record, error) {
	key, record, err := k.admit(e)
	if err == nil {
		err = refused(key.VerifyEnvelope(ctx, e))
	}
	if err != nil {
		return statement.Record{}, err
	}
	return record, nil
}

// admit finds the key of an envelope and checks all but the proof.
func (k *Keys) admit(e *statement.Envelope) (verifier, statement.Record, error) {
	var record statement.Record
	fail := func(err error) (verifier, statement.Record, error) { return nil, statement.Record{}, err }
	if err := e.Check(); err != nil {
		return fail(refused(err))
	}
	if want := k.options.Model; want != nil {
		f := e.Statement.Inference
		if f == nil {
			return fail(refusal.New(ReasonModel, "the statement is about a gradient, not about a model"))
		}
		if id := f.Model.ID(); id != *want {
			return fail(refusal.New(ReasonModel, "the statement is about model %s", id))
		}
	}
	if r, known := k.records[e.Key]; known {
		if err := r.Admits(e); err != nil {
			return fail(refused(err))
		}
		if r.Development && !k.options.Development {
			return fail(refusal.New(ReasonKeyDevelopment, "key %s comes from a development setup: its maker can forge proofs (--allow-development accepts it)", e.Key))
		}
		record = *r
	} else if _, there := k.files[e.Key]; there && !k.options.Unregistered {
		return fail(refusal.New(ReasonKeyUnregistered, "no record says which circuit key %s is for; name its record (--record), or accept the key without one (--allow-unregistered)", e.Key))
	}
	key, err := k.key(e)
	return key, record, err
}

// key reads a key, once.
func (k *Keys) key(e *statement.Envelope) (verifier, error) {
	if key, ok := k.ready[e.Key]; ok {
		return key, nil
	}
	path, known := k.files[e.Key]
	if !known {
		return nil, refusal.New(ReasonKeyUnknown, "no file holds verifying key %s; name the file or its directory (--vk)", e.Key)
	}
	raw, err := readBounded(path, maxKeyBytes)
	if err != nil {
		return nil, refusal.New(ReasonKeyUnknown, "%w", err)
	}
	if sha256.Sum256(raw) != e.Key {
		return nil, refusal.New(ReasonKeyMalformed, "%s is not the key %s", path, e.Key)
	}
	var key verifier
	switch e.Statement.System {
	case statement.Groth16:
		key, err = groth16verify.ParseKey(raw)
	case statement.PLONK:
		key, err = plonkverify.ParseKey(raw)
	default:
		return nil, refusal.New(ReasonMalformed, "unsupported proof system %s", e.Statement.System)
	}
	if err != nil {
		return nil, refusal.New(ReasonKeyMalformed, "%s: %w", path, err)
	}
	k.ready[e.Key] = key
	return key, nil
}

// refused gives an error of a verifier or of a statement its reason.
func refused(err error) error {
	for _, r := range []struct {
		err    error
		reason refusal.Reason
	}{
		{context.DeadlineExceeded, ReasonTimeout},
		{groth16verify.ErrProof, ReasonProof}, {plonkverify.ErrProof, ReasonProof},
		{groth16verify.ErrMismatch, ReasonStatement}, {plonkverify.ErrMismatch, ReasonStatement}, {statement.ErrMismatch, ReasonStatement},
		{statement.ErrMalformed, ReasonMalformed},
	} {
		if errors.Is(err, r.err) {
			return refusal.New(r.reason, "%w", err)
		}
	}
	return err
}

// Open reads an envelope in either form, or the one in a file that holds a proof with its
// receipt, which is not looked at. An error is an *refusal.Error.
func Open(raw []byte) (e *statement.Envelope, withReceipt bool, err error) {
	raw, withReceipt, err = unwrap(raw)
	if err != nil {
		return nil, false, refusal.New(ReasonMalformed, "%w", err)
	}
	e, err = statement.Open(raw)
	return e, withReceipt, refused(err)
}

// unwrap finds the proof in a proof with its receipt.
func unwrap(raw []byte) (proof []byte, withReceipt bool, err error) {
	if len(raw) > MaxFileBytes {
		return nil, false, fmt.Errorf("the file has more than %d bytes", MaxFileBytes)
	}
	if !bytes.HasPrefix(bytes.TrimLeft(raw, " \t\r\n"), []byte("{")) {
		return raw, false, nil
	}
	return bundled(raw)
}
