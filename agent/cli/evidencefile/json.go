package evidencefile

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
)

// maxMembers bounds the members of one JSON object.
const maxMembers = 64

// object is a JSON object that is read member by member: names as they are written, each once.
type object struct {
	members map[string]json.RawMessage
	read    map[string]bool
	err     error // of the first member that could not be read
}

// readObject reads an object and nothing behind it.
func readObject(text []byte) (*object, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	malformed := func(what string) (*object, error) { return nil, refusal.New(ReasonMalformed, "JSON: %s", what) }
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return malformed("not an object")
	}
	o := &object{members: map[string]json.RawMessage{}, read: map[string]bool{}}
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return malformed("an object that does not end")
		}
		if _, twice := o.members[name]; twice || len(o.members) == maxMembers {
			return malformed("a member twice, or too many of them")
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return malformed("a member that cannot be read")
		}
		o.members[name] = value
	}
	if t, err := dec.Token(); err != nil || t != json.Delim('}') || len(bytes.TrimSpace(text[dec.InputOffset():])) > 0 {
		return malformed("an object that does not end, or something behind it")
	}
	return o, nil
}

// has says whether the object has all of these members, not null.
func (o *object) has(names ...string) bool {
	for _, n := range names {
		if v, ok := o.members[n]; !ok || string(v) == "null" {
			return false
		}
	}
	return true
}

// unread names the members that nothing asked for.
func (o *object) unread() []string {
	return slices.Sorted(func(yield func(string) bool) {
		for name := range maps.Keys(o.members) {
			if !o.read[name] && !yield(name) {
				return
			}
		}
	})
}

func (o *object) fail(name, what string) {
	if o.err == nil {
		o.err = refusal.New(ReasonMalformed, "JSON: member %q: %s", name, what)
	}
}

// raw is a member, which must be there.
func (o *object) raw(name string) json.RawMessage {
	o.read[name] = true
	if !o.has(name) {
		o.fail(name, "it is missing")
		return nil
	}
	return o.members[name]
}

func (o *object) text(name string) (s string) {
	if raw := o.raw(name); raw != nil && json.Unmarshal(raw, &s) != nil {
		o.fail(name, "not a text")
	}
	return s
}

// bytes is a member that holds bytes: an array of numbers, base64, or PEM.
func (o *object) bytes(name string) []byte { return o.decoded(name, anyBase64) }

// hexBytes is a member that holds bytes: an array of numbers, or hexadecimal.
func (o *object) hexBytes(name string) []byte { return o.decoded(name, hex.DecodeString) }

func (o *object) decoded(name string, decode func(string) ([]byte, error)) []byte {
	raw := o.raw(name)
	if raw == nil {
		return nil
	}
	b, ok := anyBytes(raw, decode)
	if !ok {
		o.fail(name, "neither an array of bytes nor their text")
	}
	return b
}

// hex is a member in hexadecimal.
func (o *object) hex(name string) []byte {
	b, err := hex.DecodeString(o.text(name))
	if err != nil {
		o.fail(name, "not in hexadecimal")
	}
	return b
}

// object is a member that is one.
func (o *object) object(name string) *object {
	if raw := o.raw(name); raw != nil {
		inner, err := readObject(raw)
		if err == nil {
			return inner
		}
		o.fail(name, err.Error())
	}
	return &object{members: map[string]json.RawMessage{}, read: map[string]bool{}}
}

// list are the elements of a member, at most so many.
func (o *object) list(name string, most int) (list []json.RawMessage) {
	if raw := o.raw(name); raw != nil && (json.Unmarshal(raw, &list) != nil || len(list) > most) {
		o.fail(name, "not a list, or too long")
		return nil
	}
	return list
}

// anyBytes reads what serialisers write for bytes. Which text it is the form says: zeros in
// base64 are hexadecimal, too.
func anyBytes(raw json.RawMessage, decode func(string) ([]byte, error)) ([]byte, bool) {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		if strings.HasPrefix(text, "-----BEGIN") {
			return []byte(text), true
		}
		b, err := decode(text)
		return b, err == nil
	}
	var numbers []uint16
	if json.Unmarshal(raw, &numbers) != nil {
		return nil, false
	}
	b := make([]byte, len(numbers))
	for i, n := range numbers {
		if n > 255 {
			return nil, false
		}
		b[i] = byte(n)
	}
	return b, true
}

// recogniseJSON tells forms of JSON by the members that they have.
func recogniseJSON(text []byte) (found, error) {
	o, err := readObject(text)
	if err != nil {
		return found{}, err
	}
	f := found{form: formSupply}
	switch {
	case o.has("tcbInfo", "signature"):
		f.supplies.TCBInfos = [][]byte{text}
	case o.has("enclaveIdentity", "signature"):
		f.supplies.QEIdentities = [][]byte{text}
	case o.has("tcb_info", "qe_identity", "pck_crl"):
		f.supplies.Complete = []collateral.TDXDocuments{quoteCollateral(o)}
	case o.has("evidence", "agent_key_id"):
		f.evidence, err = answer(o)
	case o.has("hcl_report", "tpm_quote"):
		f.evidence, err = trusteeAzure(o)
	case o.has("akPub", "quotes"):
		f.evidence, err = tpmTools(o, &f.supplies)
	case o.has("attestation_report"):
		f.evidence, err = trusteeSNP(o, &f.supplies)
	case o.has("outblob"):
		f.evidence, err = tsmReport(o)
	case o.has("quote"):
		f.evidence, err = trusteeTDX(o)
	default:
		return found{}, refusal.New(ReasonForm, "a JSON object with the members %s", strings.Join(slices.Sorted(maps.Keys(o.members)), ", "))
	}
	if err == nil {
		err = o.err
	}
	if f.evidence != nil {
		f.form, f.evidence.Unread = f.evidence.Form, append(f.evidence.Unread, o.unread()...)
	}
	return f, err
}

// quoteCollateral reads the collateral of dcap-qvl, which has the signed texts and their
// signatures apart.
func quoteCollateral(o *object) collateral.TDXDocuments {
	signed := func(member, name string) []byte {
		return []byte(`{"` + member + `":` + o.text(name) + `,"signature":"` + o.text(name+"_signature") + `"}`)
	}
	return collateral.TDXDocuments{
		TCBInfo: signed("tcbInfo", "tcb_info"), TCBInfoChain: []byte(o.text("tcb_info_issuer_chain")),
		QEIdentity: signed("enclaveIdentity", "qe_identity"), QEIdentityChain: []byte(o.text("qe_identity_issuer_chain")),
		PCKCRL: o.hexBytes("pck_crl"), PCKCRLChain: []byte(o.text("pck_crl_issuer_chain")), RootCRL: o.hexBytes("root_ca_crl"),
	}
}

// answer reads what our local API answers: the challenge is made of the nonce and the agent's key.
func answer(o *object) (*Evidence, error) {
	raw, nonce, key := o.bytes("evidence"), o.hex("nonce"), o.hex("agent_key_id")
	stated := o.hex("report_data")
	if o.err != nil {
		return nil, o.err
	}
	o.read["kind"] = true // the envelope says it
	if len(key) != 32 || len(nonce) < evidence.MinCallerNonce || len(nonce) > evidence.MaxCallerNonce {
		return nil, refusal.New(ReasonMalformed, "a nonce of %d bytes and a key id of %d bytes", len(nonce), len(key))
	}
	env, err := evidence.ParseEnvelope(raw)
	if err != nil {
		return nil, err
	}
	challenge := evidence.CallerBinding{Nonce: nonce, AgentKeyID: [32]byte(key)}.Challenge()
	if data := env.ReportData(challenge); !bytes.Equal(stated, data[:]) {
		return nil, refusal.New(ReasonMalformed, "report_data is not what nonce, key id and parts make it")
	}
	e := piece(FormAnswer, env.Kind, env.Parts...)
	e.Nonce, e.Challenge = nonce, &challenge
	return e, nil
}
