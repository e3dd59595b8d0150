// Package keywrap seals a released key so that only the guest whose KEM key was attested can open
// it.
//
// It is HPKE (RFC 9180) in base mode with the hybrid KEM MLKEM768-X25519, HKDF-SHA256 and
// AES-256-GCM, all from the standard library. A secret opens only with the private key, and only
// under the info that both ends computed by themselves. A [Recipient] opens one batch and is
// erased, whether that succeeds or fails. The package trusts crypto/hpke.
//
// The broker seals (with crypto/keyseal) and its client opens; the parties of a shared key do
// both.
package keywrap

import (
	"crypto/hpke"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// Sizes of the hybrid KEM, in bytes.
const (
	// PublicKeySize is an ML-KEM-768 encapsulation key and an X25519 point.
	PublicKeySize = 1184 + 32
	// EncSize is an ML-KEM-768 ciphertext and an X25519 point.
	EncSize = 1088 + 32
	// Overhead is the authentication tag.
	Overhead = 16
	// MaxSecretBytes bounds one secret.
	MaxSecretBytes = 64 << 10
	// ExportSize is the size of one item's export.
	ExportSize = 32
)

// Errors that a caller can branch on.
var (
	ErrUsed      = errors.New("keywrap: the recipient key was already used or erased")
	ErrOpen      = errors.New("keywrap: the sealed key does not open")
	ErrPublicKey = errors.New("keywrap: not a public key of the hybrid KEM")
	ErrInfo      = errors.New("keywrap: info must not be empty")
)

// Sealed is one wrapped secret. Info is computed by the receiver, never sent.
type Sealed struct {
	Info, Enc, Ciphertext []byte
}

// Recipient is KK, the unwrap key of one exchange.
type Recipient struct {
	public []byte

	mu      sync.Mutex
	private hpke.PrivateKey // nil once used
}

// NewRecipient makes a key pair for one exchange.
func NewRecipient() (*Recipient, error) {
	private, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("keywrap: make recipient key: %w", err)
	}
	return &Recipient{public: private.PublicKey().Bytes(), private: private}, nil
}

// PublicKey returns the encoding that evidence binds, PublicKeySize bytes.
func (r *Recipient) PublicKey() []byte { return append([]byte(nil), r.public...) }

// OpenAll opens one batch and erases the private key in any case. It returns either all secrets,
// in order, or none.
func (r *Recipient) OpenAll(items []Sealed) ([]*keybuf.Buffer, error) {
	secrets, _, err := r.OpenExporting(items, "")
	return secrets, err
}

// OpenExporting opens like OpenAll. It also returns the exports of the items' contexts for
// exporter, ExportSize bytes each, one after the other: a secret that proves to the sealer that
// all items were opened, and that only the two of them can compute.
func (r *Recipient) OpenExporting(items []Sealed, exporter string) (secrets []*keybuf.Buffer, exported []byte, err error) {
	private := r.take()
	if private == nil {
		return nil, nil, ErrUsed
	}
	secrets = make([]*keybuf.Buffer, 0, len(items))
	for i, item := range items {
		secret, export, err := open(private, item, exporter)
		if err != nil {
			for _, s := range secrets {
				s.Wipe()
			}
			keybuf.Wipe(exported)
			return nil, nil, fmt.Errorf("item %d: %w", i, err)
		}
		secrets, exported = append(secrets, secret), append(exported, export...)
	}
	return secrets, exported, nil
}

// Erase forgets the private key.
func (r *Recipient) Erase() { r.take() }

func (r *Recipient) take() hpke.PrivateKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	private := r.private
	r.private = nil
	return private
}

func open(private hpke.PrivateKey, item Sealed, exporter string) (*keybuf.Buffer, []byte, error) {
	if len(item.Info) == 0 {
		return nil, nil, ErrInfo
	}
	if len(item.Enc) != EncSize || len(item.Ciphertext) <= Overhead || len(item.Ciphertext) > MaxSecretBytes+Overhead {
		return nil, nil, ErrOpen
	}
	recipient, err := hpke.NewRecipient(item.Enc, private, hpke.HKDFSHA256(), hpke.AES256GCM(), item.Info)
	if err != nil {
		return nil, nil, ErrOpen
	}
	plain, err := recipient.Open(nil, item.Ciphertext)
	if err != nil {
		return nil, nil, ErrOpen
	}
	secret, err := keybuf.Take(plain)
	if err != nil {
		return nil, nil, err
	}
	export, err := recipient.Export(exporter, ExportSize)
	if err != nil {
		secret.Wipe()
		return nil, nil, fmt.Errorf("keywrap: %w", err)
	}
	return secret, export, nil
}

// Seal wraps a secret to a recipient's public key under info.
func Seal(publicKey, info []byte, secret *keybuf.Buffer) (enc, ciphertext []byte, err error) {
	if len(publicKey) != PublicKeySize {
		return nil, nil, ErrPublicKey
	}
	if len(info) == 0 {
		return nil, nil, ErrInfo
	}
	if secret.Len() == 0 || secret.Len() > MaxSecretBytes {
		return nil, nil, fmt.Errorf("keywrap: a secret must have 1 to %d bytes, got %d", MaxSecretBytes, secret.Len())
	}
	public, err := hpke.MLKEM768X25519().NewPublicKey(publicKey)
	if err != nil {
		return nil, nil, ErrPublicKey
	}
	enc, sender, err := hpke.NewSender(public, hpke.HKDFSHA256(), hpke.AES256GCM(), info)
	if err != nil {
		return nil, nil, fmt.Errorf("keywrap: %w", err)
	}
	ciphertext, err = sender.Seal(nil, secret.Bytes())
	runtime.KeepAlive(secret) // an unreachable buffer is wiped, even while it is read
	if err != nil {
		return nil, nil, fmt.Errorf("keywrap: %w", err)
	}
	return enc, ciphertext, nil
}
