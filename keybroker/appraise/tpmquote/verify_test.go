package tpmquote

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"math/big"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

func TestQuoteIsClaimed(t *testing.T) {
	m := newMaker(t)
	c, err := Verify(m.quote(t), m.expected())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(c.AKName, m.keyName()) || c.AKTrust != evidence.AKEnrolled || c.AKSubject != "" || c.Bank != "sha256" || len(c.PCRs) != 10 ||
		!bytes.Equal(c.PCRs[7], m.pcrs[7]) || c.FirmwareVersion != 0x2019052300163636 || c.ResetCount != 3 || c.RestartCount != 4 || !c.Safe {
		t.Errorf("%+v", c)
	}
}

// Every algorithm, in both banks; the digest of the PCRs is of the signature's hash, whatever the
// bank.
func TestAcceptedAlgorithms(t *testing.T) {
	rsaSigner := rsaKey(t)
	for _, c := range []struct {
		key    crypto.Signer
		scheme uint16
		curve  uint16
	}{
		{newKey(t, elliptic.P256()), algECDSA, curveP256}, {newKey(t, elliptic.P384()), algECDSA, curveP384}, {rsaSigner, algRSASSA, 0}, {rsaSigner, algRSAPSS, 0},
	} {
		for _, hash := range []uint16{algSHA256, algSHA384} {
			for _, bank := range []string{evidence.BankSHA256, evidence.BankSHA384} {
				m := newMaker(t)
				m.key, m.scheme, m.curve, m.hash, m.nameAlg, m.name = c.key, c.scheme, c.curve, hash, hash, bank
				if bank == evidence.BankSHA384 {
					m.bank, m.pcrs = algSHA384, values(48, 0, 4, 7, 23)
				}
				if got, err := Verify(m.quote(t), m.expected()); err != nil || got.Bank != bank {
					t.Errorf("scheme %#x, curve %d, hash %#x, bank %s: %v", c.scheme, c.curve, hash, bank, err)
				}
			}
		}
	}
	m := newMaker(t)
	m.key, m.scheme, m.exponent = rsaSigner, algRSASSA, rsaExponent // written out
	if _, err := Verify(m.quote(t), m.expected()); err != nil {
		t.Error(err)
	}
}

// Each quote differs from an accepted one in one respect, and is signed all the same.
func TestPitfall28OtherQuotesAreRefused(t *testing.T) {
	two := [][]byte{{0, algSHA256, 3, 0x91, 0, 0}, {0, algSHA384, 3, 0x91, 0, 0}}
	for name, c := range map[string]struct {
		change func(*maker)
		reason refusal.Reason
	}{
		"not made by a TPM":          {func(m *maker) { m.magic = 0x12345678 }, ReasonMalformed},
		"another attestation":        {func(m *maker) { m.typ = 0x8017 }, ReasonMalformed},
		"another nonce":              {func(m *maker) { m.nonce[31] ^= 1 }, ReasonNonce},
		"a nonce's beginning":        {func(m *maker) { m.nonce = m.nonce[:31] }, ReasonNonce},
		"no nonce":                   {func(m *maker) { m.nonce = nil }, ReasonNonce},
		"a long nonce":               {func(m *maker) { m.nonce = make([]byte, maxData+1) }, ReasonMalformed},
		"neither safe nor not":       {func(m *maker) { m.safe = 2 }, ReasonMalformed},
		"more behind the digest":     {func(m *maker) { m.attestTail = []byte{0} }, ReasonMalformed},
		"no selection":               {func(m *maker) { m.selections = [][]byte{} }, ReasonSelection},
		"empty selection":            {func(m *maker) { m.selections = [][]byte{{0, algSHA256, 3, 0, 0, 0}} }, ReasonSelection},
		"two banks":                  {func(m *maker) { m.selections = two }, ReasonSelection},
		"bank of SHA-1":              {func(m *maker) { m.selections = [][]byte{{0, 4, 3, 0x91, 0, 0}} }, ReasonSelection},
		"a PCR that does not exist":  {func(m *maker) { m.selections = [][]byte{{0, algSHA256, 4, 0xff, 3, 0, 1}} }, ReasonMalformed},
		"a long bitmap":              {func(m *maker) { m.selections = [][]byte{{0, algSHA256, 5, 0xff, 3, 0, 0, 0}} }, ReasonMalformed},
		"no bitmap":                  {func(m *maker) { m.selections = [][]byte{{0, algSHA256, 0}} }, ReasonMalformed},
		"values of another bank":     {func(m *maker) { m.bank = algSHA384 }, ReasonSelection},
		"a required PCR missing":     {func(m *maker) { delete(m.pcrs, 7) }, ReasonSelection},
		"a value not quoted":         {func(m *maker) { m.selections = [][]byte{{0, algSHA256, 3, 0xff, 1, 0}} }, ReasonSelection},
		"a quoted value missing":     {func(m *maker) { m.selections = [][]byte{{0, algSHA256, 3, 0xff, 7, 0}} }, ReasonSelection},
		"another digest":             {func(m *maker) { m.digest = make([]byte, 32) }, ReasonDigest},
		"an empty digest":            {func(m *maker) { m.digest = []byte{} }, ReasonDigest},
		"signature of another":       {func(m *maker) { m.sign = func(d []byte) []byte { d[0] ^= 1; return d } }, ReasonSignature},
		"more behind the signature":  {func(m *maker) { m.sigTail = []byte{0} }, ReasonMalformed},
		"not restricted":             {func(m *maker) { m.attributes &^= attrRestricted }, ReasonAttributes},
		"not signing":                {func(m *maker) { m.attributes &^= attrSign }, ReasonAttributes},
		"decrypts, too":              {func(m *maker) { m.attributes |= attrDecrypt }, ReasonAttributes},
		"may leave the TPM":          {func(m *maker) { m.attributes &^= attrFixedTPM }, ReasonAttributes},
		"may change its parent":      {func(m *maker) { m.attributes &^= attrFixedParent }, ReasonAttributes},
		"imported":                   {func(m *maker) { m.attributes &^= attrSensitiveOrigin }, ReasonAttributes},
		"signs certificates":         {func(m *maker) { m.attributes |= 1 << 19 }, ReasonAttributes},
		"a reserved attribute":       {func(m *maker) { m.attributes |= 1 << 31 }, ReasonAttributes},
		"name of SHA-1":              {func(m *maker) { m.nameAlg = 4 }, ReasonAlgorithm},
		"a symmetric algorithm":      {func(m *maker) { m.symmetric = 6 }, ReasonMalformed},
		"a key derivation":           {func(m *maker) { m.kdf = 0x20 }, ReasonAlgorithm},
		"another curve":              {func(m *maker) { m.curve = 0x20 }, ReasonAlgorithm},
		"a point on another curve":   {func(m *maker) { m.curve = curveP384 }, ReasonAlgorithm},
		"more behind the key":        {func(m *maker) { m.publicTail = []byte{0} }, ReasonMalformed},
		"no key":                     {func(m *maker) { m.noPublic = true }, ReasonKey},
		"RSA key, scheme of ECC":     {func(m *maker) { m.key = rsaKey(t) }, ReasonMalformed},
		"RSA key of a wrong size":    {func(m *maker) { m.key, m.scheme, m.bits = rsaKey(t), algRSASSA, 3072 }, ReasonAlgorithm},
		"RSA key that is too small":  {func(m *maker) { m.key, m.scheme, m.bits = rsaKey(t), algRSASSA, 1024 }, ReasonAlgorithm},
		"RSA key, another exponent":  {func(m *maker) { m.key, m.scheme, m.exponent = rsaKey(t), algRSASSA, 3 }, ReasonAlgorithm},
		"ECC key, scheme of RSA":     {func(m *maker) { m.scheme = algRSASSA }, ReasonMalformed},
		"another signature's scheme": {func(m *maker) { m.scheme = 0x001a }, ReasonAlgorithm},
	} {
		m := newMaker(t)
		c.change(m)
		want := m.expected()
		if m.keyName() == nil {
			want = newMaker(t).expected()
		}
		_, err := Verify(m.quote(t), want)
		if got, _ := refusal.ReasonOf(err); got != c.reason {
			t.Errorf("%s: got %v, want %q", name, err, c.reason)
		}
	}
}

// A key's scheme and hash are fixed in its public area.
func TestSignatureOfAnotherSchemeIsRefused(t *testing.T) {
	m := newMaker(t)
	public := m.public()
	m.hash = algSHA384
	attest := m.attest()
	q := evidence.TPMQuote{Attest: attest, Signature: m.signature(t, attest), Public: public, Bank: m.name, PCRs: m.pcrs}
	data, err := q.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	want := m.expected()
	want.Trust = TrustEnrolled(Name(algSHA256, public))
	_, err = Verify(data, want)
	wantReason(t, err, ReasonAlgorithm)
}

// A key of one kind with the scheme of the other is refused even before a signature is read.
func TestKeysOfAnotherSchemeAreRefused(t *testing.T) {
	m := newMaker(t)
	m.scheme = algRSAPSS
	_, err := parsePublic(m.public())
	wantReason(t, err, ReasonAlgorithm)
	m.key, m.scheme = rsaKey(t), algECDSA
	_, err = parsePublic(m.public())
	wantReason(t, err, ReasonAlgorithm)
	m.scheme = algNull // unsigned by default: the signature would choose
	_, err = parsePublic(m.public())
	wantReason(t, err, ReasonAlgorithm)
	good := newMaker(t).public()
	good[1]++
	_, err = parsePublic(good)
	wantReason(t, err, ReasonAlgorithm)
	for cut := range good {
		if _, err := parsePublic(good[:cut]); err == nil {
			t.Errorf("cut to %d bytes: accepted", cut)
		}
	}
}

func TestWhatIsExpectedMustBeSaid(t *testing.T) {
	m := newMaker(t)
	quote := m.quote(t)
	for name, c := range map[string]struct {
		change func(*Expected)
		reason refusal.Reason
	}{
		"no nonce":            {func(e *Expected) { e.Nonce = nil }, ReasonNonce},
		"short nonce":         {func(e *Expected) { e.Nonce = e.Nonce[:MinNonceBytes-1] }, ReasonNonce},
		"another nonce":       {func(e *Expected) { e.Nonce = make([]byte, 32) }, ReasonNonce},
		"no PCRs":             {func(e *Expected) { e.PCRs = nil }, ReasonSelection},
		"PCR not quoted":      {func(e *Expected) { e.PCRs = append(e.PCRs, 10) }, ReasonSelection},
		"no such PCR":         {func(e *Expected) { e.PCRs = append(e.PCRs, 64) }, ReasonSelection},
		"negative PCR":        {func(e *Expected) { e.PCRs = append(e.PCRs, -1) }, ReasonSelection},
		"no trust":            {func(e *Expected) { e.Trust = Trust{} }, ReasonKey},
		"nobody enrolled":     {func(e *Expected) { e.Trust = TrustEnrolled() }, ReasonKey},
		"another enrolled":    {func(e *Expected) { e.Trust = TrustEnrolled(make([]byte, 34)) }, ReasonKey},
		"nothing reported":    {func(e *Expected) { e.Trust = TrustReportedName(nil) }, ReasonKey},
		"no key reported":     {func(e *Expected) { e.Trust = TrustReportedKey(nil) }, ReasonKey},
		"another reported":    {func(e *Expected) { e.Trust = TrustReportedKey(newKey(t, elliptic.P256()).Public()) }, ReasonKey},
		"other kind reported": {func(e *Expected) { e.Trust = TrustReportedKey(rsaKey(t).Public()) }, ReasonKey},
		"no authorities":      {func(e *Expected) { e.Trust = TrustCertificate(nil, []byte{1}) }, ReasonKey},
	} {
		want := m.expected()
		c.change(&want)
		_, err := Verify(quote, want)
		if got, _ := refusal.ReasonOf(err); got != c.reason {
			t.Errorf("%s: got %v, want %q", name, err, c.reason)
		}
	}
	_, err := Verify(quote, Expected{})
	wantReason(t, err, ReasonNonce)
	for size, reason := range map[int]refusal.Reason{0: ReasonNonce, MinNonceBytes - 1: ReasonNonce, MinNonceBytes: ""} { // quoted as asked for
		m.nonce = make([]byte, size)
		want := m.expected()
		want.Nonce = m.nonce
		_, err := Verify(m.quote(t), want)
		wantReason(t, err, reason)
	}
}

// TestNameThatTheTPMDidNotSignIsNotClaimed: a report tells the key alone, so another public area with it is the same
// key under another name.
func TestNameThatTheTPMDidNotSignIsNotClaimed(t *testing.T) {
	m := newMaker(t)
	want := m.expected()
	want.Trust = TrustReportedKey(m.key.Public())
	q, err := evidence.ParseTPMQuote(m.quote(t))
	if err != nil {
		t.Fatal(err)
	}
	for attributes, named := range map[uint32]bool{m.attributes: true, m.attributes ^ attrNoDA: false} {
		m.attributes = attributes
		q.Public = m.public()
		raw, err := q.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if c, err := Verify(raw, want); err != nil || (len(c.AKName) > 0) != named {
			t.Errorf("attributes %#x: name %s, %v", attributes, c.AKName, err)
		}
	}
}

func TestReportedKeyIsBelieved(t *testing.T) {
	for _, noPublic := range []bool{false, true} {
		m := newMaker(t)
		m.noPublic = noPublic
		want := m.expected()
		want.Trust = TrustReportedKey(m.key.Public())
		c, err := Verify(m.quote(t), want)
		if err != nil || c.AKTrust != evidence.AKReport || (len(c.AKName) == 0) != noPublic {
			t.Errorf("%+v, %v", c, err)
		}
		want.Trust = TrustReportedName(m.keyName())
		if _, err = Verify(m.quote(t), want); noPublic {
			wantReason(t, err, ReasonKey)
		} else if err != nil {
			t.Error(err)
		}
		want.Trust = TrustReportedKey(newKey(t, elliptic.P256()).Public())
		if _, err = Verify(m.quote(t), want); noPublic {
			wantReason(t, err, ReasonSignature)
		} else {
			wantReason(t, err, ReasonKey)
		}
	}
}

// A key that comes without a public area is held to the same parameters.
func TestReportedKeysOfOtherParametersAreRefused(t *testing.T) {
	m := newMaker(t)
	m.noPublic = true
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skipf("small keys cannot be made here: %v", err)
	}
	for _, key := range []crypto.PublicKey{
		newKey(t, elliptic.P521()).Public(), small.Public(), &rsa.PublicKey{N: rsaKey(t).N, E: 3}, (*ecdsa.PublicKey)(nil), &ecdsa.PublicKey{}, &rsa.PublicKey{E: rsaExponent}, "key",
	} {
		want := m.expected()
		want.Trust = TrustReportedKey(key)
		_, err := Verify(m.quote(t), want)
		wantReason(t, err, ReasonAlgorithm)
	}
}

// No byte of a quote can be changed: everything is signed, or what was signed names it.
func TestEveryByteOfAQuoteCounts(t *testing.T) {
	m := newMaker(t)
	quote, want := m.quote(t), m.expected()
	for at := range quote {
		for bit := range 8 {
			quote[at] ^= 1 << bit
			if _, err := Verify(quote, want); err == nil {
				t.Errorf("bit %d of byte %d does not count", bit, at)
			} else if _, ok := refusal.ReasonOf(err); !ok {
				t.Errorf("no reason: %v", err)
			}
			quote[at] ^= 1 << bit
		}
	}
	for cut := range quote {
		if _, err := Verify(quote[:cut], want); err == nil {
			t.Errorf("cut to %d bytes: accepted", cut)
		}
	}
}

// TPMs leave out leading zeros of coordinates and numbers.
func TestCoordinatesWithoutLeadingZeros(t *testing.T) {
	for range 2000 {
		key := newKey(t, elliptic.P256())
		point, err := key.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if point[1] != 0 {
			continue
		}
		m := newMaker(t)
		m.key = key
		public := m.public()
		x := public[len(public)-2*32-4:]
		short := append(public[:len(public)-len(x):len(public)-len(x)], 0, 31)
		short = append(short, x[3:]...)
		p, err := parsePublic(short)
		if err != nil || !sameKey(p.key, key.Public()) {
			t.Errorf("%v", err)
		}
		return
	}
	t.Log("no such key came up")
}

// Claims do not change with the evidence's memory.
func TestClaimsAreCopies(t *testing.T) {
	m := newMaker(t)
	quote := m.quote(t)
	c, err := Verify(quote, m.expected())
	if err != nil {
		t.Fatal(err)
	}
	before := fmt.Sprintf("%+v", c)
	clear(quote)
	if after := fmt.Sprintf("%+v", c); after != before {
		t.Errorf("%s became %s", before, after)
	}
}

func TestNamesAreOfTheirAlgorithm(t *testing.T) {
	for alg, size := range map[uint16]int{algSHA256: 34, algSHA384: 50, 4: 0, 0x0d: 0} {
		if got := Name(alg, []byte("public")); len(got) != size {
			t.Errorf("%#x: %x", alg, got)
		}
	}
	if new(big.Int).SetBytes(Name(algSHA256, nil)[:2]).Int64() != algSHA256 {
		t.Error("no algorithm in front")
	}
}
