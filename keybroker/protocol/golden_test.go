package protocol

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keywrap"
)

// hexBytes is a byte string in hexadecimal JSON.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

// vectors is one whole exchange with everything that is computed from it. The
// file was written once by TestWriteVectors; a second implementation can be
// checked against it, and this one must read it for ever.
type vectors struct {
	Exporter   hexBytes    `json:"exporter"`
	Root       hexBytes    `json:"root_public"`
	EpochKey   hexBytes    `json:"epoch_public"`
	AgentKey   hexBytes    `json:"agent_public"`
	Messages   [7]hexBytes `json:"messages_m1_to_m7"`
	Refusal    hexBytes    `json:"refusal"`
	HashM1     hexBytes    `json:"hash_m1"`
	HashM2     hexBytes    `json:"hash_m2"`
	HashM6     hexBytes    `json:"hash_m6"`
	Transcript hexBytes    `json:"transcript"`
	Exchange   hexBytes    `json:"exchange"`
	KeyInfo    hexBytes    `json:"hpke_info_of_item_1"`
	ReceiptKey hexBytes    `json:"receipt_key"`
	Epoch      hexBytes    `json:"epoch_statement"`
	Lease      hexBytes    `json:"lease_certificate"`
	Chain      hexBytes    `json:"lease_chain"`
}

var vectorFile = filepath.Join("testdata", "exchange-2.json")

func golden(t testing.TB) vectors {
	t.Helper()
	return readVectors(t, vectorFile)
}

func readVectors(t testing.TB, file string) vectors {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func goldenFrames(t testing.TB) [][]byte {
	v := golden(t)
	out := [][]byte{v.Refusal}
	for _, m := range v.Messages {
		out = append(out, m)
	}
	return append(out, permitFrames(t)...)
}

func sampleRefusal() *Refusal {
	r := &Refusal{Reason: ReasonEpochBehind}
	fill(r.ID[:], 0xa0)
	return r
}

// TestWriteVectors writes the vectors if they are not there. They never change:
// a change of the encoding is a new version of the protocol with a new file.
func TestWriteVectors(t *testing.T) {
	if _, err := os.Stat(vectorFile); err == nil {
		t.Skip("the vectors exist and stay as they are")
	}
	p := newParties(t)
	r := newRun(t, p)
	var m2 Challenge
	var m6 Release
	if err := Parse(r.frames[1], &m2); err != nil {
		t.Fatal(err)
	}
	if err := Parse(r.frames[5], &m6); err != nil {
		t.Fatal(err)
	}
	v := vectors{Exporter: r.ekm[:], Root: p.root.Public().Bytes(), EpochKey: p.epoch.Public().Bytes(), AgentKey: p.agent.Public().Bytes(),
		ReceiptKey: sampleReceiptKey, Refusal: must[[]byte](t)(Marshal(sampleRefusal())), Epoch: m2.Epoch, Lease: m6.Lease,
		Chain: must[[]byte](t)(MarshalLeaseChain(m2.Epoch, m6.Lease))}
	for i := range r.frames {
		v.Messages[i] = r.frames[i]
	}
	v.compute(r, &m6)
	b := must[[]byte](t)(json.MarshalIndent(v, "", "  "))
	if err := os.WriteFile(vectorFile, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Fatalf("wrote %s: commit it", vectorFile)
}

func (v *vectors) compute(r run, m6 *Release) {
	set := func(to *hexBytes, d Digest) { *to = bytes.Clone(d[:]) }
	transcript := Transcript(r.ekm, r.frames[0], r.frames[1], r.frames[2], r.frames[3], r.frames[4])
	exchange, _ := m6.Exchange(transcript)
	set(&v.HashM1, HashMessage(r.frames[0]))
	set(&v.HashM2, HashMessage(r.frames[1]))
	set(&v.HashM6, HashMessage(r.frames[5]))
	set(&v.Transcript, transcript)
	set(&v.Exchange, exchange)
	g := sampleGrant()
	v.KeyInfo = KeyInfo(transcript, g.Lease, m6.Items[1].Resource, m6.Items[1].Version, 1, g.LeaseEnd)
}

// TestGoldenVectors reads the stored exchange: it verifies, it means what it
// meant, and everything computed from it is the same.
func TestGoldenVectors(t *testing.T) {
	v := golden(t)
	var r run
	copy(r.ekm[:], v.Exporter)
	for i := range r.frames {
		r.frames[i] = v.Messages[i]
	}
	parse := must[identity.Public](t)
	root, epoch, agent := parse(identity.ParsePublic(v.Root)), parse(identity.ParsePublic(v.EpochKey)), parse(identity.ParsePublic(v.AgentKey))
	if err := r.check(root); err != nil {
		t.Fatal(err)
	}
	var m6 Release
	if err := Parse(r.frames[5], &m6); err != nil {
		t.Fatal(err)
	}
	again := v
	again.compute(r, &m6)
	if !reflect.DeepEqual(again, v) {
		t.Error("a hash of the stored exchange changed")
	}
	for i, want := range map[int]Message{0: sampleHello(), 3: sampleGrant(), 4: sampleRequest()} {
		if frame, err := Marshal(want); err != nil || !bytes.Equal(frame, r.frames[i]) {
			t.Errorf("M%d encodes differently: %v", i+1, err)
		}
	}
	if frame, err := Marshal(sampleRefusal()); err != nil || !bytes.Equal(frame, v.Refusal) {
		t.Errorf("the refusal encodes differently: %v", err)
	}
	a, err := VerifyAuthority(v.Chain, []identity.Public{root}, AnyBroker(), Recorded(AtLeast(1)), RoleServe, Named("models/demo"), Everyone())
	if err != nil {
		t.Fatal(err)
	}
	cert, st := a.Lease, a.Epoch
	if !st.Key.Equal(epoch) || !cert.AgentKey.Equal(agent) || st.Epoch != 7 || st.MinEpoch != 6 || st.NotBefore != sampleTime-1000 || cert.ImageID != "image-1" {
		t.Errorf("the stored statements mean something else: %+v %+v", st, cert)
	}
	var m3 Attest
	if err := Parse(r.frames[2], &m3); err != nil || len(m3.KEMKey) != keywrap.PublicKeySize || string(m3.Evidence) != "evidence" {
		t.Errorf("M3 means something else: %v", err)
	}
}

// TestVersion1IsRefusedByName reads the vectors of version 1: messages and lease
// certificate are refused for their version; hello, refusal and epoch statement are as
// they were; a chain verifies, and gives no authority.
func TestVersion1IsRefusedByName(t *testing.T) {
	v := readVectors(t, filepath.Join("testdata", "exchange-1.json"))
	root := must[identity.Public](t)(identity.ParsePublic(v.Root))
	for i, m := range []Message{&Hello{}, &Challenge{}, &Attest{}, &Grant{}, &Request{}, &Release{}, &Receipt{}} {
		err := Parse(v.Messages[i], m)
		if i == 0 {
			if err != nil {
				t.Errorf("M1: %v", err)
			}
			continue
		}
		wantReason(t, err, ReasonMessageVersion)
		_, _, err = ReadFrame(bytes.NewReader(v.Messages[i]), m.Type())
		wantReason(t, err, ReasonMessageVersion)
	}
	if err := Parse(v.Refusal, &Refusal{}); err != nil {
		t.Error(err)
	}
	_, err := Choose(&Hello{Versions: []Version{1}, Suites: []Suite{Suite1}}, []Version{Version2}, []Suite{Suite1}, nil)
	wantReason(t, err, ReasonVersionUnsupported)

	st, err := VerifyEpoch(v.Epoch, []identity.Public{root})
	if err != nil {
		t.Fatal(err)
	}
	_, err = VerifyLease(v.Lease, st)
	wantReason(t, err, ReasonStatementVersion)
	a, err := VerifyAuthority(v.Chain, []identity.Public{root}, AnyBroker(), Recorded(AtLeast(1)), RoleServe, NoResource(), Everyone())
	wantReason(t, err, ReasonAuthorityNotRecorded)
	if a.Lease.ImageID != "image-1" || a.Lease.Roles() != 0 || len(a.Lease.Grants) != 0 {
		t.Errorf("a certificate of version 1 became %+v", a.Lease)
	}
	bad := bytes.Clone(v.Chain)
	bad[len(bad)-1] ^= 1
	_, err = VerifyAuthority(bad, []identity.Public{root}, AnyBroker(), Recorded(AtLeast(1)), RoleServe, NoResource(), Everyone())
	wantReason(t, err, ReasonBrokerSignature)
}
