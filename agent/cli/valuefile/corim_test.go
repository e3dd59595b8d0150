package valuefile

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/fxamacker/cbor/v2"
)

// item is a map of CBOR.
type item = map[any]any

func encode(tb testing.TB, v any) []byte {
	tb.Helper()
	raw, err := cbor.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func tag(number uint64, content any) cbor.Tag { return cbor.Tag{Number: number, Content: content} }

func sha384(b byte) []any { return []any{namedSHA384, repeated(b, 48)} }

// reference is a triple of one class and measurements.
func reference(class any, measurements ...any) []any { return []any{item{0: class}, measurements} }

func amdClass() item   { return item{0: tag(tagUUID, amdClasses()[0])} }
func tdClass() item    { return item{0: tag(tagUUID, repeated(5, 16)), 1: "ACME", 2: "TD"} }
func seamClass() item  { return item{0: tag(tagOID, append(intelComponents(), 3))} }
func intelOID() any    { return tag(tagOID, intelProfile()) }
func amdURI() any      { return tag(tagURI, amdProfile) }
func epoch(at int) any { return tag(tagTime, int(testNow().Unix())+at) }

func snpMeasurement(b byte) item {
	return item{0: 0, 1: item{2: []any{[]any{1, repeated(b, 32)}, sha384(b)}}}
}

// manifest is an unsigned CoRIM of one CoMID; change edits its map.
func manifest(tb testing.TB, change func(item), triples ...any) []byte {
	tb.Helper()
	mid := item{1: item{0: "tag"}, 4: item{0: triples}}
	m := item{0: "manifest", 1: []any{tag(tagCoMID, encode(tb, mid))}, 5: []any{item{0: "ACME", 2: []any{1}}}}
	if change != nil {
		change(m)
	}
	return encode(tb, tag(tagUnsignedCoRIM, m))
}

func coseSign(tb testing.TB, key crypto.Signer, hash crypto.Hash, message []byte) []byte {
	tb.Helper()
	digest := message
	if hash != 0 {
		h := hash.New()
		h.Write(message)
		digest = h.Sum(nil)
	}
	var signature []byte
	var err error
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		r, s, signErr := ecdsa.Sign(rand.Reader, k, digest)
		if signErr != nil {
			tb.Fatal(signErr)
		}
		size := (k.Params().BitSize + 7) / 8
		return slices.Concat(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size)))
	case *rsa.PrivateKey:
		signature, err = rsa.SignPSS(rand.Reader, k, hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	default:
		signature, err = key.Sign(rand.Reader, message, crypto.Hash(0))
	}
	if err != nil {
		tb.Fatal(err)
	}
	return signature
}

// sign1 signs a payload; change edits the protected header, outside is the unprotected one.
func sign1(tb testing.TB, key crypto.Signer, algorithm int, hash crypto.Hash, payload []byte, change func(item), outside item) []byte {
	tb.Helper()
	header := item{1: algorithm, 3: contentType, 4: []byte("kid"), 8: encode(tb, item{0: item{0: "ACME"}, 1: item{0: epoch(-60), 1: epoch(60)}})}
	if change != nil {
		change(header)
	}
	if outside == nil {
		outside = item{}
	}
	protected := encode(tb, header)
	signature := coseSign(tb, key, hash, encode(tb, []any{"Signature1", protected, []byte{}, payload}))
	return encode(tb, tag(tagSign1, []any{protected, outside, payload, signature}))
}

func TestSignedCoRIMsGiveValuesOfSNP(t *testing.T) {
	key := newEC(t, elliptic.P384())
	a := newAuthority(t, key, nil)
	further := item{0: 0, 1: item{0: item{0: "1"}, 1: tag(553, 4), 2: []any{sha384(2)}, 3: item{-3: false}, 4: tag(560, repeated(1, 16))}}
	payload := manifest(t, func(m item) { m[3] = amdURI(); m[4] = item{1: epoch(1)} },
		reference(amdClass(), snpMeasurement(1), further, item{0: 7, 1: item{1: tag(553, 9)}}, item{0: 0, 1: item{1: 4}}, item{0: "text", 1: item{1: 4}},
			item{0: 0, 1: item{2: []any{sha384(3)}}, 2: []any{tag(554, "key")}}),
		reference(item{0: tag(tagOID, amdClasses()[3])}, item{0: 0, 1: item{2: []any{[]any{"sha-384", repeated(4, 48)}}}}),
		[]any{item{0: amdClass(), 1: tag(560, repeated(1, 64))}, []any{snpMeasurement(9)}},
		reference(item{0: tag(tagUUID, amdClasses()[1]), 2: "model"}, snpMeasurement(8)),
		reference(item{0: tag(tagUUID, repeated(3, 16))}, snpMeasurement(8)),
	)
	signed := sign1(t, key, -35, crypto.SHA384, payload, nil, item{33: a.leaf})
	f, err := Read("web.corim", signed, Options{Trust: a.trust(), Now: testNow(), ID: "images/web", Covers: "image"})
	if err != nil {
		t.Fatal(err)
	}
	checkFile(t, f, "corim web.corim, signed by CN=test signer (key sha256:")
	got := registersOf(f)
	for id, b := range map[string]string{"images/web/1": "01", "images/web/2": "02", "images/web/3": "04"} {
		if got[id]["launch"] != strings.Repeat(b, 48) {
			t.Errorf("%s: got %v", id, got[id])
		}
	}
	if len(f.Values) != 3 || f.Values[0].Covers != "image" || f.Values[0].Kind != "sev-snp" {
		t.Errorf("got %+v", f.Values)
	}
	notes := strings.Join(f.Notes, "\n")
	for _, says := range []string{"NOT ENFORCED by the value: the manifest also demands version, svn, flags, raw-value", "measurement 7 of the platform", "without a digest", "key is not a number",
		"a certain key vouches", "one instance or group", "with further conditions", "does not know"} {
		if !strings.Contains(notes, says) {
			t.Errorf("notes do not say %q:\n%s", says, notes)
		}
	}
}

func TestSignedCoRIMsGiveValuesOfTDX(t *testing.T) {
	key := newEC(t, elliptic.P256())
	payload := manifest(t, func(m item) { m[3] = intelOID() },
		reference(tdClass(),
			item{1: item{-83: sha384(1), -82: repeated(1, 8), 14: item{1: []any{sha384(11)}, "RTMR2": []any{sha384(12)}}}},
			item{1: item{-83: []any{[]any{1, repeated(1, 32)}, sha384(2)}}},
			item{0: 83, 1: item{2: []any{sha384(3)}}},
			item{1: item{-83: tag(60020, []any{6, []any{sha384(4), sha384(5)}})}},
			item{1: item{-73: 4}},
			item{1: item{14: item{"rtmr2": []any{sha384(13)}, 1: []any{sha384(14)}}}}),
		reference(seamClass(), item{1: item{-83: sha384(9)}}),
	)
	f, err := Read("td.corim", sign1(t, key, -7, crypto.SHA256, payload, nil, nil), Options{Trust: Trust{Keys: []crypto.PublicKey{key.Public()}}, Now: testNow(), ID: "td"})
	if err != nil {
		t.Fatal(err)
	}
	checkFile(t, f, "signed by key sha256:")
	got := registersOf(f)
	for id, b := range map[string]string{"td/1": "01", "td/2": "02", "td/3": "03", "td/4": "04", "td/5": "05"} {
		if got[id]["mrtd"] != strings.Repeat(b, 48) {
			t.Errorf("%s: got %v", id, got[id])
		}
	}
	if len(f.Values) != 5 || got["td/1"]["rtmr1"] != strings.Repeat("0b", 48) || got["td/1"]["rtmr2"] != strings.Repeat("0c", 48) || f.Values[0].Kind != "tdx" {
		t.Errorf("got %+v", f.Values)
	}
	notes := strings.Join(f.Notes, "\n")
	for _, says := range []string{"also demands attributes", "a component of Intel's", "NOT ENFORCED by any value: a measurement without an MRTD (key -1, values -73)",
		"NOT ENFORCED by any value: a measurement without an MRTD demands rtmr1: " + strings.Repeat("0e", 48) + ", rtmr2: " + strings.Repeat("0d", 48)} {
		if !strings.Contains(notes, says) {
			t.Errorf("notes do not say %q:\n%s", says, notes)
		}
	}
}

// TestRegistersOnTheirOwnAreRead, for what they say is shown.
func TestRegistersOnTheirOwnAreRead(t *testing.T) {
	key := newEC(t, elliptic.P256())
	payload := manifest(t, func(m item) { m[3] = intelOID() }, reference(tdClass(), item{1: item{-83: sha384(1)}}, item{1: item{14: item{"rtmr9": []any{sha384(1)}}}}))
	_, err := Read("td.corim", sign1(t, key, -7, crypto.SHA256, payload, nil, nil), Options{Trust: Trust{Keys: []crypto.PublicKey{key.Public()}}, Now: testNow(), ID: "td"})
	if reason, _ := refusal.ReasonOf(err); reason != ReasonUnsupported {
		t.Errorf("got %v", err)
	}
}

func TestEverySignatureAlgorithmVerifies(t *testing.T) {
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	payload := manifest(t, nil, reference(amdClass(), snpMeasurement(1)))
	for _, c := range []struct {
		algorithm int
		hash      crypto.Hash
		key       crypto.Signer
	}{
		{-7, crypto.SHA256, newEC(t, elliptic.P256())}, {-35, crypto.SHA384, newEC(t, elliptic.P384())}, {-36, crypto.SHA512, newEC(t, elliptic.P521())},
		{-37, crypto.SHA256, rsaKey(t)}, {-38, crypto.SHA384, rsaKey(t)}, {-39, crypto.SHA512, rsaKey(t)}, {-8, 0, edwards},
	} {
		o := Options{Trust: Trust{Keys: []crypto.PublicKey{c.key.Public()}}, Now: testNow()}
		if _, err := Read("x", sign1(t, c.key, c.algorithm, c.hash, payload, nil, nil), o); err != nil {
			t.Errorf("algorithm %d: %v", c.algorithm, err)
		}
	}
}

// TestSignaturesOfCoRIMsAreRefused has one case for each check of the envelope, in which the others hold.
func TestSignaturesOfCoRIMsAreRefused(t *testing.T) {
	key := newEC(t, elliptic.P256())
	a := newAuthority(t, key, nil)
	keyTrust := Trust{Keys: []crypto.PublicKey{key.Public()}}
	payload := manifest(t, nil, reference(amdClass(), snpMeasurement(1)))
	header := func(change func(item)) []byte { return sign1(t, key, -7, crypto.SHA256, payload, change, nil) }
	period := func(from, to any) func(item) {
		return func(h item) { h[8] = encode(t, item{0: item{0: "ACME"}, 1: item{0: from, 1: to}}) }
	}
	swapped := header(nil)
	swapped = bytes.Replace(swapped, repeated(1, 48), repeated(2, 48), 1)
	parts := func(list ...any) []byte { return encode(t, tag(tagSign1, list)) }
	for name, c := range map[string]struct {
		raw    []byte
		trust  Trust
		reason refusal.Reason
	}{
		"nothing changed":                 {header(nil), keyTrust, ""},
		"by root, with a list":            {sign1(t, key, -7, crypto.SHA256, payload, func(h item) { h[33] = []any{a.leaf} }, nil), a.trust(), ""},
		"without meta":                    {header(func(h item) { delete(h, 8) }), keyTrust, ""},
		"another digest":                  {swapped, keyTrust, ReasonSignature},
		"another key":                     {header(nil), Trust{Keys: []crypto.PublicKey{newEC(t, elliptic.P256()).Public()}}, ReasonSignature},
		"nobody is trusted":               {header(nil), Trust{}, ReasonSigner},
		"a root and no chain":             {header(nil), a.trust(), ReasonSigner},
		"another root":                    {sign1(t, key, -7, crypto.SHA256, payload, nil, item{33: a.leaf}), newAuthority(t, key, nil).trust(), ReasonSigner},
		"a long chain":                    {sign1(t, key, -7, crypto.SHA256, payload, nil, item{33: slices.Repeat([]any{a.leaf}, maxChain+1)}), a.trust(), ReasonSize},
		"a chain of no certificates":      {sign1(t, key, -7, crypto.SHA256, payload, nil, item{33: []any{1}}), a.trust(), ReasonMalformed},
		"taken for unsigned":              {header(nil), Trust{Unsigned: "test"}, ReasonUnsupported},
		"an algorithm that is not known":  {sign1(t, key, -257, crypto.SHA256, payload, nil, nil), keyTrust, ReasonUnsupported},
		"no algorithm":                    {header(func(h item) { delete(h, 1) }), keyTrust, ReasonMalformed},
		"critical parameters":             {header(func(h item) { h[2] = []any{4} }), keyTrust, ReasonUnsupported},
		"a parameter that is not known":   {header(func(h item) { h[258] = -16 }), keyTrust, ReasonUnsupported},
		"a parameter by name":             {header(func(h item) { h["x"] = 1 }), keyTrust, ReasonUnsupported},
		"another content":                 {header(func(h item) { h[3] = "text/plain" }), keyTrust, ReasonUnsupported},
		"content with a profile":          {header(func(h item) { h[3] = contentType + `; profile="x"` }), keyTrust, ""},
		"no content type":                 {header(func(h item) { delete(h, 3) }), keyTrust, ReasonMalformed},
		"a payload elsewhere":             {parts(encode(t, item{1: -7}), item{}, nil, repeated(1, 64)), keyTrust, ReasonUnsupported},
		"no signature":                    {parts(encode(t, item{1: -7}), item{}, payload), keyTrust, ReasonMalformed},
		"a header of another type":        {parts("x", item{}, payload, repeated(1, 64)), keyTrust, ReasonMalformed},
		"a signature that ended":          {header(period(epoch(-60), epoch(-1))), keyTrust, ReasonPeriod},
		"a signature to come":             {header(period(epoch(1), epoch(60))), keyTrust, ReasonPeriod},
		"a fraction of a second":          {header(period(epoch(-60), tag(tagTime, float64(testNow().Unix())+2.5))), keyTrust, ""},
		"a time that is none":             {header(period(epoch(-60), tag(tagTime, 1e300))), keyTrust, ReasonMalformed},
		"a time of another tag":           {header(period(epoch(-60), tag(0, "2026"))), keyTrust, ReasonUnsupported},
		"a period without an end":         {header(func(h item) { h[8] = encode(t, item{0: 0, 1: item{0: epoch(-60)}}) }), keyTrust, ReasonMalformed},
		"claims that ended":               {header(func(h item) { h[15] = item{1: "ACME", 4: int(testNow().Unix()) - 1} }), keyTrust, ReasonPeriod},
		"claims to come":                  {header(func(h item) { h[15] = item{1: "ACME", 5: int(testNow().Unix()) + 1} }), keyTrust, ReasonPeriod},
		"claims that hold":                {header(func(h item) { h[15] = item{1: "ACME", 4: int(testNow().Unix()) + 1, 5: int(testNow().Unix()) - 1} }), keyTrust, ""},
		"bytes behind":                    {append(header(nil), 0), keyTrust, ReasonUnsupported},
		"a payload of an older draft":     {sign1(t, key, -7, crypto.SHA256, encode(t, tag(500, item{})), nil, nil), keyTrust, ReasonUnsupported},
		"a payload that is a hash":        {sign1(t, key, -7, crypto.SHA256, repeated(1, 32), nil, nil), keyTrust, ReasonMalformed},
		"unsigned":                        {payload, keyTrust, ReasonUnsigned},
		"unsigned, and accepted in words": {payload, Trust{Unsigned: "a demo"}, ""},
	} {
		f, err := Read("x", c.raw, Options{Trust: c.trust, Now: testNow()})
		wantReason(t, name, err, c.reason)
		if c.trust.Unsigned != "" && err == nil {
			checkFile(t, f, "corim x, UNSIGNED: a demo")
		}
	}
}

// TestManifestsAreRefused has one case for each check of the content, in which the others hold.
func TestManifestsAreRefused(t *testing.T) {
	good := reference(amdClass(), snpMeasurement(1))
	intel := func(m item) { m[3] = intelOID() }
	td := func(values item) []byte { return manifest(t, intel, reference(tdClass(), item{1: values})) }
	mid := func(m item) []byte {
		return encode(t, tag(tagUnsignedCoRIM, item{0: "m", 1: []any{tag(tagCoMID, encode(t, m))}}))
	}
	twice := append([]byte{0xd9, 0x01, 0xf5, 0xa2, 0x00, 0x01, 0x00}, 0x01)
	for name, c := range map[string]struct {
		raw    []byte
		reason refusal.Reason
	}{
		"nothing changed":              {manifest(t, nil, good), ""},
		"a key that is not known":      {manifest(t, func(m item) { m[9] = 1 }, good), ReasonUnsupported},
		"a key by name":                {manifest(t, func(m item) { m["x"] = 1 }, good), ReasonMalformed},
		"a key twice":                  {twice, ReasonMalformed},
		"a profile that is not known":  {manifest(t, func(m item) { m[3] = tag(tagURI, "https://example.org/") }, good), ReasonUnsupported},
		"a profile of another OID":     {manifest(t, func(m item) { m[3] = tag(tagOID, []byte{1}) }, good), ReasonUnsupported},
		"a manifest that ended":        {manifest(t, func(m item) { m[4] = item{1: epoch(-1)} }, good), ReasonPeriod},
		"no parts":                     {manifest(t, func(m item) { m[1] = []any{} }, good), ReasonMalformed},
		"a part that is no string":     {manifest(t, func(m item) { m[1] = []any{tag(tagCoMID, 1)} }, good), ReasonMalformed},
		"parts of software alone":      {manifest(t, func(m item) { m[1] = []any{tag(505, []byte{0xa0})} }, good), ReasonEmpty},
		"a CoMID's key":                {mid(item{1: item{0: "x"}, 4: item{0: []any{good}}, 7: 1}), ReasonUnsupported},
		"links are named":              {mid(item{1: item{0: "x"}, 3: []any{}, 4: item{0: []any{good}, 2: []any{}}}), ""},
		"no triples":                   {mid(item{1: item{0: "x"}}), ReasonMalformed},
		"a triple of three":            {manifest(t, nil, append(slices.Clone(good), 1)), ReasonMalformed},
		"an environment's key":         {manifest(t, nil, []any{item{0: amdClass(), 5: 1}, []any{snpMeasurement(1)}}), ReasonUnsupported},
		"no class":                     {manifest(t, nil, []any{item{}, []any{snpMeasurement(1)}}), ReasonEmpty},
		"a class's key":                {manifest(t, nil, reference(item{7: 1}, snpMeasurement(1))), ReasonUnsupported},
		"a measurement's key":          {manifest(t, nil, reference(amdClass(), item{0: 0, 1: item{2: []any{sha384(1)}}, 5: 1})), ReasonUnsupported},
		"a condition not known":        {manifest(t, nil, reference(amdClass(), item{0: 0, 1: item{2: []any{sha384(1)}, 12: 1}})), ReasonUnsupported},
		"Intel's condition without it": {manifest(t, nil, reference(amdClass(), item{0: 0, 1: item{2: []any{sha384(1)}, -82: 1}})), ReasonUnsupported},
		"two digests of one algorithm": {manifest(t, nil, reference(amdClass(), item{0: 0, 1: item{2: []any{sha384(1), sha384(2)}}})), ReasonMalformed},
		"no digest of SHA-384":         {manifest(t, nil, reference(amdClass(), item{0: 0, 1: item{2: []any{[]any{1, repeated(1, 32)}}}})), ReasonUnsupported},
		"a short digest":               {manifest(t, nil, reference(amdClass(), item{0: 0, 1: item{2: []any{[]any{7, repeated(1, 32)}}}})), ReasonMalformed},
		"a digest of three parts":      {manifest(t, nil, reference(amdClass(), item{0: 0, 1: item{2: []any{[]any{7, repeated(1, 48), 1}}}})), ReasonMalformed},
		"a digest's name of bytes":     {manifest(t, nil, reference(amdClass(), item{0: 0, 1: item{2: []any{[]any{[]byte{7}, repeated(1, 48)}}}})), ReasonMalformed},
		"TDX without Intel's profile":  {manifest(t, nil, reference(tdClass(), item{1: item{-83: sha384(1)}})), ReasonEmpty},
		"a class without an id":        {manifest(t, intel, reference(item{1: "Intel"}, item{1: item{-83: sha384(1)}})), ReasonEmpty},
		"a layer of a TD":              {manifest(t, intel, reference(item{0: tag(tagUUID, repeated(5, 16)), 3: 1}, item{1: item{-83: sha384(1)}})), ReasonEmpty},
		"an MRTD of SHA-256":           {td(item{-83: []any{1, repeated(1, 32)}}), ReasonUnsupported},
		"not a member":                 {td(item{-83: tag(60020, []any{7, []any{sha384(1)}})}), ReasonUnsupported},
		"an expression of another tag": {td(item{-83: tag(60021, []any{6, []any{sha384(1)}})}), ReasonUnsupported},
		"members of another algorithm": {td(item{-83: tag(60020, []any{6, []any{[]any{1, repeated(1, 32)}}})}), ReasonUnsupported},
		"a fourth register":            {td(item{-83: sha384(1), 14: item{4: []any{sha384(1)}}}), ReasonUnsupported},
		"a register of another name":   {td(item{-83: sha384(1), 14: item{"pcr01": []any{sha384(1)}}}), ReasonUnsupported},
		"a register by both its names": {td(item{-83: sha384(1), 14: item{1: []any{sha384(1)}, "rtmr1": []any{sha384(1)}}}), ReasonUnsupported},
		"a register without a digest":  {td(item{-83: sha384(1), 14: item{1: []any{}}}), ReasonMalformed},
		"registers that are no map":    {td(item{-83: sha384(1), 14: 1}), ReasonMalformed},
		"too deep":                     {manifest(t, func(m item) { m[5] = nested(maxDepth + 1) }, good), ReasonUnsupported},
		"too many parts":               {manifest(t, func(m item) { m[1] = slices.Repeat([]any{1}, maxElements+1) }, good), ReasonUnsupported},
	} {
		_, err := Read("x", c.raw, Options{Trust: Trust{Unsigned: "test"}, Now: testNow()})
		wantReason(t, name, err, c.reason)
	}
	var many []any
	for range MaxValues + 1 {
		many = append(many, snpMeasurement(1))
	}
	_, err := Read("x", manifest(t, nil, reference(amdClass(), many...)), Options{Trust: Trust{Unsigned: "test"}, Now: testNow()})
	wantReason(t, "too many values", err, ReasonSize)
}

func nested(depth int) any {
	var v any = 1
	for range depth {
		v = []any{v}
	}
	return v
}

// FuzzCoRIM reads manifests as if their signature had verified, and envelopes.
func FuzzCoRIM(f *testing.F) {
	key := newEC(f, elliptic.P256())
	payload := manifest(f, func(m item) { m[3] = intelOID() }, reference(tdClass(), item{1: item{-83: sha384(1), 14: item{1: []any{sha384(2)}}}}), reference(amdClass(), snpMeasurement(1)))
	f.Add(payload)
	f.Add(sign1(f, key, -7, crypto.SHA256, payload, nil, nil))
	trusted := Options{Trust: Trust{Keys: []crypto.PublicKey{key.Public()}}, Now: testNow()}
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := readCoRIM(raw, Options{Trust: Trust{Unsigned: "fuzz"}, Now: testNow()})
		if err == nil && len(file.Values) > MaxValues {
			t.Error("too many values")
		}
		if file, err = readCoRIM(raw, trusted); err == nil && file.Signature == "" {
			t.Error("values without a signature")
		}
	})
}

// TestNoNoteIsLeftOut: what the values do not enforce stands in the notes, and may be in the last of them.
func TestNoNoteIsLeftOut(t *testing.T) {
	demanding := item{0: 0, 1: item{1: tag(553, 4), 2: []any{sha384(2)}}}
	read := func(same bool, others int) (File, error) {
		list := []any{reference(amdClass(), demanding)}
		for i := range others {
			id := repeated(3, 16)
			if !same {
				id[0], id[1] = byte(i), byte(i>>8)
			}
			list = append([]any{reference(item{0: tag(tagUUID, id)}, snpMeasurement(8))}, list...)
		}
		return Read("many.corim", manifest(t, nil, list...), Options{Trust: Trust{Unsigned: "a test"}, Now: testNow()})
	}
	for _, c := range []struct {
		same   bool
		others int
	}{{false, maxNotes - 1}, {true, maxNotes * 2}} {
		f, err := read(c.same, c.others)
		if err != nil || !slices.ContainsFunc(f.Notes, func(n string) bool { return strings.HasPrefix(n, "NOT ENFORCED") }) {
			t.Errorf("%+v: %v, %d notes", c, err, len(f.Notes))
		}
	}
	_, err := read(false, maxNotes)
	if reason, _ := refusal.ReasonOf(err); reason != ReasonSize {
		t.Errorf("got %v, want %s", err, ReasonSize)
	}
}
