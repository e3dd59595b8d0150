package valuefile

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
)

// little writes a big-endian number of 48 bytes into a field of 72.
func little(b []byte) []byte {
	out := slices.Clone(b)
	slices.Reverse(out)
	return append(out, make([]byte, idNumberBytes-len(out))...)
}

func firmwareKey(tb testing.TB, key *ecdsa.PublicKey) []byte {
	tb.Helper()
	point, err := key.Bytes()
	if err != nil {
		tb.Fatal(err)
	}
	out := binary.LittleEndian.AppendUint32(nil, idCurveP384)
	out = append(append(out, little(point[1:49])...), little(point[49:])...)
	return append(out, make([]byte, idKeyBytes-len(out))...)
}

func firmwareSignature(tb testing.TB, key *ecdsa.PrivateKey, message []byte) []byte {
	tb.Helper()
	digest := sha512.Sum384(message)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		tb.Fatal(err)
	}
	out := slices.Concat(little(r.FillBytes(make([]byte, 48))), little(s.FillBytes(make([]byte, 48))))
	return append(out, make([]byte, idSignatureBytes-len(out))...)
}

// newIDBlock is a block with its authentication, as a guest's owner makes them; author may be nil.
func newIDBlock(tb testing.TB, id, author *ecdsa.PrivateKey) []byte {
	tb.Helper()
	block := make([]byte, idBlockBytes)
	copy(block, bytes.Repeat([]byte{0xab}, idLaunchEnd))
	copy(block[idLaunchEnd:], bytes.Repeat([]byte{1}, 16))
	copy(block[idFamilyEnd:], bytes.Repeat([]byte{2}, 16))
	binary.LittleEndian.PutUint32(block[idVersionAt:], idVersion)
	binary.LittleEndian.PutUint32(block[idSVNAt:], 7)
	binary.LittleEndian.PutUint64(block[idPolicyAt:], 0x30000)
	auth := make([]byte, idAuthBytes)
	binary.LittleEndian.PutUint32(auth, idAlgorithmP384)
	key := firmwareKey(tb, &id.PublicKey)
	copy(auth[authBlockSignatureAt:], firmwareSignature(tb, id, block))
	copy(auth[authIDKeyAt:], key)
	if author != nil {
		binary.LittleEndian.PutUint32(auth[authAuthorAlgorithmAt:], idAlgorithmP384)
		copy(auth[authKeySignatureAt:], firmwareSignature(tb, author, key))
		copy(auth[authAuthorKeyAt:], firmwareKey(tb, &author.PublicKey))
	}
	return append(block, auth...)
}

func TestIDBlocksGiveTheirLaunchDigest(t *testing.T) {
	id, author := newEC(t, elliptic.P384()), newEC(t, elliptic.P384())
	raw := newIDBlock(t, id, author)
	for name, key := range map[string]*ecdsa.PrivateKey{"ID key": id, "author key": author} {
		f, err := Read("dir/block.bin", raw, Options{Trust: Trust{Keys: []crypto.PublicKey{key.Public()}}, Now: testNow(), ID: "images/web", Covers: "image", Product: "Genoa"})
		if err != nil {
			t.Fatal(err)
		}
		checkFile(t, f, "sev-id-block block.bin, signed by "+name+", key sha256:", "signature sha256:")
		v := f.Values[0]
		if v.ID != "images/web" || v.Covers != "image" || v.Product != "Genoa" || v.Registers["launch"] != strings.Repeat("ab", 48) || len(f.Values) != 1 {
			t.Errorf("got %+v", f.Values)
		}
		digest := sha512.Sum384(firmwareKey(t, &id.PublicKey))
		notes := strings.Join(f.Notes, "\n")
		for _, says := range []string{"id_key_digests: [" + hex.EncodeToString(digest[:]), "author_key_digests", "minimum_guest_svn: 7", "id_block_image_ids: [" + strings.Repeat("02", 16), "guest policy 0x30000"} {
			if !strings.Contains(notes, says) {
				t.Errorf("notes do not say %q:\n%s", says, notes)
			}
		}
		if strings.Contains(notes, "--covers") {
			t.Error("the notes ask for what was given")
		}
	}
	halves := [][]byte{[]byte(base64.StdEncoding.EncodeToString(raw[:96]) + "\n"), []byte(base64.StdEncoding.EncodeToString(raw[96:]))}
	f, err := Read("x", Join(halves...), Options{Trust: Trust{Keys: []crypto.PublicKey{id.Public()}}, Now: testNow()})
	if err != nil || f.Values[0].ID != "id-block/abababababab" || f.Values[0].Covers != "" || !strings.Contains(f.Notes[0], "--covers") {
		t.Errorf("got %+v, %v", f, err)
	}
	if !bytes.Equal(Join(raw), raw) {
		t.Error("a single file is changed")
	}
}

// TestIDBlocksAreRefused has one case for each check, in which the others hold.
func TestIDBlocksAreRefused(t *testing.T) {
	id, author := newEC(t, elliptic.P384()), newEC(t, elliptic.P384())
	trusted := Trust{Keys: []crypto.PublicKey{id.Public(), author.Public()}}
	a := newAuthority(t, id, nil)
	at := func(offset int) func([]byte) { return func(b []byte) { b[offset] ^= 1 } }
	const auth = idBlockBytes
	for name, c := range map[string]struct {
		change func([]byte)
		trust  Trust
		reason refusal.Reason
	}{
		"nothing changed":                  {nil, trusted, ""},
		"another launch digest":            {at(0), trusted, ReasonSignature},
		"another version number":           {at(idSVNAt), trusted, ReasonSignature},
		"another version of the form":      {at(idVersionAt), trusted, ReasonForm},
		"another algorithm":                {at(auth), trusted, ReasonForm},
		"another author's algorithm":       {at(auth + authAuthorAlgorithmAt), trusted, ReasonUnsupported},
		"the block's signature":            {at(auth + authBlockSignatureAt), trusted, ReasonSignature},
		"the key's signature":              {at(auth + authKeySignatureAt), trusted, ReasonSignature},
		"the key's curve":                  {at(auth + authIDKeyAt), trusted, ReasonUnsupported},
		"a point off the curve":            {at(auth + authIDKeyAt + idXAt), trusted, ReasonMalformed},
		"an author off the curve":          {at(auth + authAuthorKeyAt + idXAt), trusted, ReasonMalformed},
		"reserved, first":                  {at(auth + authReservedAt), trusted, ReasonMalformed},
		"reserved, second":                 {at(auth + authIDKeyAt + idKeyBytes), trusted, ReasonMalformed},
		"reserved, last":                   {at(auth + idAuthBytes - 1), trusted, ReasonMalformed},
		"reserved, in the key":             {at(auth + authIDKeyAt + idKeyBytes - 1), trusted, ReasonMalformed},
		"reserved, in the coordinate":      {at(auth + authIDKeyAt + idXAt + 71), trusted, ReasonMalformed},
		"reserved, in the signature":       {at(auth + authBlockSignatureAt + idSignatureBytes - 1), trusted, ReasonMalformed},
		"reserved, in r":                   {at(auth + authBlockSignatureAt + 71), trusted, ReasonMalformed},
		"a stranger's":                     {nil, Trust{Keys: []crypto.PublicKey{newEC(t, elliptic.P384()).Public()}}, ReasonSigner},
		"nobody is trusted":                {nil, Trust{}, ReasonSigner},
		"a root, which no block leads to":  {nil, a.trust(), ReasonSigner},
		"unsigned files are accepted only": {nil, Trust{Unsigned: "test"}, ReasonSigner},
	} {
		raw := newIDBlock(t, id, author)
		if c.change != nil {
			c.change(raw)
		}
		_, err := Read("x", raw, Options{Trust: c.trust, Now: testNow()})
		wantReason(t, name, err, c.reason)
	}
	zero := newIDBlock(t, id, nil)
	for i := range idLaunchEnd {
		zero[i] = 0
	}
	copy(zero[auth+authBlockSignatureAt:], firmwareSignature(t, id, zero[:idBlockBytes]))
	_, err := Read("x", zero, Options{Trust: trusted, Now: testNow()})
	wantReason(t, "a launch digest of zeros", err, ReasonMalformed)
	if _, err := Read("x", newIDBlock(t, id, nil), Options{Trust: trusted, Now: testNow(), ID: "Not A Name"}); err == nil {
		t.Error("an id that the broker refuses is printed")
	}
}

// TestTheRealAuthenticationBlockVerifies reads the block of virtee/sev's tests: the launch digest is
// the one that its test has, the ID key's digest the one that it expects.
func TestTheRealAuthenticationBlockVerifies(t *testing.T) {
	auth := evidencetest.Read(t, "measure", "idblock", "test_auth_block.bin")
	key, err := idKey("ID key", auth[authIDKeyAt:authIDKeyAt+idKeyBytes])
	if err != nil {
		t.Fatal(err)
	}
	digest := sha512.Sum384(auth[authIDKeyAt : authIDKeyAt+idKeyBytes])
	if got := base64.StdEncoding.EncodeToString(digest[:]); got != "WfssaG36T+9J84M5qndckAUcKNVzg93DuvO160sUlt87DbvcuuX+J2d6ZEggdz/i" {
		t.Errorf("the ID key's digest is %s", got)
	}
	block, err := base64.StdEncoding.DecodeString("oU1jg0HlZ0Yo/h4C++3r5eWrT68d1y2JZgaOYVu5nv0T0hSzXCMXFbOOJj3GBZdFAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABAAAAAAAAAAAAAwAAAAAA")
	if err != nil {
		t.Fatal(err)
	}
	f, err := Read("x", Join(block, auth), Options{Trust: Trust{Keys: []crypto.PublicKey{key}}, Now: testNow()})
	if err != nil {
		t.Fatal(err)
	}
	checkFile(t, f, "signed by ID key")
	if got := f.Values[0].Registers["launch"]; got != "a14d638341e5674628fe1e02fbedebe5e5ab4faf1dd72d8966068e615bb99efd13d214b35c231715b38e263dc6059745" {
		t.Errorf("the launch digest is %s", got)
	}
	if notes := strings.Join(f.Notes, "\n"); !strings.Contains(notes, "author_key_digests: [eed81169") || strings.Contains(notes, "family_ids") || strings.Contains(notes, "minimum_guest_svn") {
		t.Errorf("got the notes %s", notes)
	}
}

func FuzzIDBlock(f *testing.F) {
	key := newEC(f, elliptic.P384())
	f.Add(newIDBlock(f, key, nil))
	f.Add(newIDBlock(f, key, key))
	o := Options{Trust: Trust{Keys: []crypto.PublicKey{key.Public()}}, Now: testNow()}
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := readIDBlock(raw, o)
		if err == nil && file.Signature == "" {
			t.Error("values without a signature")
		}
	})
}
