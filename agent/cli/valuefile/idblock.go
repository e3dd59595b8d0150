package valuefile

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/policy"
)

// Layout of an ID block and of its authentication, as the firmware takes them (AMD 56860, SNP_LAUNCH_FINISH:
// "ID Block Structure" and "ID Authentication Information Structure").
const (
	idBlockBytes = 96
	idAuthBytes  = 4096

	// The block.
	idLaunchEnd, idFamilyEnd, idImageEnd = 48, 64, 80
	idVersionAt, idSVNAt, idPolicyAt     = 80, 84, 88
	idVersion                            = 1

	// Its authentication: two algorithms, a signature and a key each of ID key and author key.
	authAuthorAlgorithmAt, authReservedAt = 4, 8
	authBlockSignatureAt, authIDKeyAt     = 0x40, 0x240
	authKeySignatureAt, authAuthorKeyAt   = 0x680, 0x880
	idAlgorithmP384                       = 1

	// A key is a curve, x and y; a signature is r and s. Numbers are little-endian.
	idKeyBytes, idSignatureBytes = 0x404, 0x200
	idNumberBytes, p384Bytes     = 72, 48
	idCurveP384, idXAt           = 2, 4
	idYAt, idKeyEnd              = idXAt + idNumberBytes, idXAt + 2*idNumberBytes
	idSAt, idSignatureEnd        = idNumberBytes, 2 * idNumberBytes
)

// isIDBlock recognises a block with its authentication behind it.
func isIDBlock(raw []byte) bool {
	return len(raw) == idBlockBytes+idAuthBytes && binary.LittleEndian.Uint32(raw[idVersionAt:]) == idVersion &&
		binary.LittleEndian.Uint32(raw[idBlockBytes:]) == idAlgorithmP384
}

// idBlock is a block that its ID key has signed.
type idBlock struct {
	launch, family, image []byte
	svn                   uint32
	policy                uint64
	key, author           []byte // as the firmware hashes them; author is nil without one
	signature             []byte
}

func readIDBlock(raw []byte, o Options) (File, error) {
	f := File{Form: FormIDBlock}
	b, keys, err := parseIDBlock(raw)
	if err != nil {
		return f, err
	}
	who, err := b.signer(keys, o)
	if err != nil {
		return f, err
	}
	f.signedBy(who, b.signature)
	id := o.ID
	if id == "" {
		id = "id-block/" + hex.EncodeToString(b.launch[:6])
	}
	err = f.add(policy.ReferenceValue{ID: id, Kind: string(evidence.KindSNP), Registers: map[string]string{evidence.RegisterLaunch: hex.EncodeToString(b.launch)}}, o, "")
	b.notes(&f)
	return f, err
}

// notes say what else the block binds: the policy can require it, as the report shows it.
func (b idBlock) notes(f *File) {
	if f.Values[0].Covers == "" {
		f.note("An ID block does not say whether its launch digest covers an image or the firmware alone: say what you know with --covers.")
	}
	digest := sha512.Sum384(b.key)
	require := []string{fmt.Sprintf("id_key_digests: [%x]", digest)}
	if b.author != nil {
		digest = sha512.Sum384(b.author)
		require = append(require, fmt.Sprintf("author_key_digests: [%x]", digest))
	}
	if !zeros(b.family) {
		require = append(require, fmt.Sprintf("family_ids: [%x]", b.family))
	}
	if !zeros(b.image) {
		require = append(require, fmt.Sprintf("id_block_image_ids: [%x]", b.image))
	}
	if b.svn > 0 {
		require = append(require, fmt.Sprintf("minimum_guest_svn: %d", b.svn))
	}
	f.note("Guests start with this block under guest policy %#x. Require the rest of the block under require.sev_snp:", b.policy)
	for _, line := range require {
		f.note("  %s", line)
	}
}

// parsedKeys are the keys in a block's authentication.
type parsedKeys struct{ id, author *ecdsa.PublicKey }

// parseIDBlock reads the fixed fields and checks both signatures among themselves: a block whose own
// key did not sign it starts no guest. Whom to believe is not decided here.
func parseIDBlock(raw []byte) (b idBlock, keys parsedKeys, err error) {
	if !isIDBlock(raw) {
		return b, keys, refusal.New(ReasonMalformed, "got %d bytes, want an ID block of version %d and its authentication for ECDSA P-384", len(raw), idVersion)
	}
	block, auth := raw[:idBlockBytes], raw[idBlockBytes:]
	for _, reserved := range [][]byte{auth[authReservedAt:authBlockSignatureAt], auth[authIDKeyAt+idKeyBytes : authKeySignatureAt], auth[authAuthorKeyAt+idKeyBytes:]} {
		if !zeros(reserved) {
			return b, keys, refusal.New(ReasonMalformed, "reserved bytes of the authentication are not zero")
		}
	}
	b = idBlock{
		launch: block[:idLaunchEnd], family: block[idLaunchEnd:idFamilyEnd], image: block[idFamilyEnd:idImageEnd],
		svn: binary.LittleEndian.Uint32(block[idSVNAt:]), policy: binary.LittleEndian.Uint64(block[idPolicyAt:]),
		key: auth[authIDKeyAt : authIDKeyAt+idKeyBytes], signature: auth[authBlockSignatureAt : authBlockSignatureAt+idSignatureBytes],
	}
	if keys.id, err = idKey("ID key", b.key); err != nil {
		return b, keys, err
	}
	if err := idVerify("ID block", keys.id, block, b.signature); err != nil {
		return b, keys, err
	}
	author, signature := auth[authAuthorKeyAt:authAuthorKeyAt+idKeyBytes], auth[authKeySignatureAt:authKeySignatureAt+idSignatureBytes]
	if zeros(author) && zeros(signature) {
		return b, keys, nil // some tools write the algorithm even where there is no author key
	}
	if algorithm := binary.LittleEndian.Uint32(auth[authAuthorAlgorithmAt:]); algorithm != idAlgorithmP384 {
		return b, keys, refusal.New(ReasonUnsupported, "the author key is of algorithm %d, want %d (ECDSA P-384)", algorithm, idAlgorithmP384)
	}
	if keys.author, err = idKey("author key", author); err != nil {
		return b, keys, err
	}
	b.author = author
	return b, keys, idVerify("ID key", keys.author, b.key, signature)
}

// signer is who of the block's keys is one that the operator gave. A block has no certificates.
func (b idBlock) signer(keys parsedKeys, o Options) (string, error) {
	trusted, err := o.Trust.candidates(nil, o.Now)
	if err != nil {
		return "", err
	}
	for _, k := range []struct {
		role string
		key  *ecdsa.PublicKey
	}{{"ID key", keys.id}, {"author key", keys.author}} {
		if k.key == nil {
			continue
		}
		for _, t := range trusted {
			if k.key.Equal(t.key) {
				return k.role + ", " + t.name, nil
			}
		}
	}
	return "", refusal.New(ReasonSigner, "neither the block's ID key nor its author key is one that was given")
}

// idKey reads a key of the firmware's form.
func idKey(what string, raw []byte) (*ecdsa.PublicKey, error) {
	if curve := binary.LittleEndian.Uint32(raw); curve != idCurveP384 {
		return nil, refusal.New(ReasonUnsupported, "%s: got curve %d, want %d (P-384)", what, curve, idCurveP384)
	}
	x, okX := idNumber(raw[idXAt:idYAt])
	y, okY := idNumber(raw[idYAt:idKeyEnd])
	if !okX || !okY || !zeros(raw[idKeyEnd:]) {
		return nil, refusal.New(ReasonMalformed, "%s: reserved bytes are not zero", what)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), slices.Concat([]byte{4}, x, y))
	if err != nil {
		return nil, refusal.New(ReasonMalformed, "%s: %w", what, err)
	}
	return key, nil
}

// idNumber is a coordinate of P-384, big-endian.
func idNumber(little []byte) ([]byte, bool) {
	number := slices.Clone(little[:p384Bytes])
	slices.Reverse(number)
	return number, zeros(little[p384Bytes:])
}

func idVerify(what string, key *ecdsa.PublicKey, message, signature []byte) error {
	r, okR := idNumber(signature[:idSAt])
	s, okS := idNumber(signature[idSAt:idSignatureEnd])
	if !okR || !okS || !zeros(signature[idSignatureEnd:]) {
		return refusal.New(ReasonMalformed, "the signature of the %s: reserved bytes are not zero", what)
	}
	digest := sha512.Sum384(message)
	if !ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(r), new(big.Int).SetBytes(s)) {
		return refusal.New(ReasonSignature, "the %s is not signed by the key in its authentication", what)
	}
	return nil
}

func zeros(b []byte) bool { return bytes.Count(b, []byte{0}) == len(b) }
