package valuefile

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/fxamacker/cbor/v2"
)

// Tags and keys of draft-ietf-rats-corim.
const (
	tagUnsignedCoRIM, tagCoMID = 501, 506
	tagUUID, tagOID, tagURI    = 37, 111, 32

	keyCorimID, keyCorimTags, keyCorimDependent, keyCorimProfile, keyCorimPeriod, keyCorimEntities = 0, 1, 2, 3, 4, 5
	keyMidLanguage, keyMidIdentity, keyMidEntities, keyMidLinked, keyMidTriples                    = 0, 1, 2, 3, 4
	keyReferenceTriples                                                                            = 0
	keyClass, keyInstance, keyGroup                                                                = 0, 1, 2
	keyClassID, keyClassVendor, keyClassModel, keyClassLayer, keyClassIndex                        = 0, 1, 2, 3, 4
	keyMeasurementKey, keyMeasurementValues, keyAuthorizedBy                                       = 0, 1, 2

	valueDigests, valueRegisters = 2, 14
	namedSHA384                  = 7 // IANA's Named Information Hash Algorithm Registry

	// Of Intel's profile (draft-cds-rats-intel-corim-profile).
	valueMRTEE, keyMRTEE      = -83, 83
	tagDigestExpression, opIn = 60020, 6
)

// amdProfile is the identifier that draft-deeglaze-amd-sev-snp-corim-profile has until AMD assigns one.
const amdProfile = "http://amd.com/please-permalink-me"

// intelProfile is the OID 2.16.840.1.113741.1.16.1.
func intelProfile() []byte {
	return []byte{0x60, 0x86, 0x48, 0x01, 0x86, 0xf8, 0x4d, 0x01, 0x10, 0x01}
}

// intelComponents are the OIDs under 2.16.840.1.113741.1.2.3.4: TDX module, quoting enclave and the like.
func intelComponents() []byte {
	return []byte{0x60, 0x86, 0x48, 0x01, 0x86, 0xf8, 0x4d, 0x01, 0x02, 0x03, 0x04}
}

// amdClasses are the classes of guests of SEV-SNP: reports signed by a chip's key, or by a provider's.
// The draft gives UUIDs in its text and OIDs (1.3.6.1.4.1.3704.2.1 and .2) in its example.
func amdClasses() [][]byte {
	return [][]byte{
		{0xd0, 0x5e, 0x6d, 0x1b, 0x9f, 0x46, 0x4a, 0xe2, 0xa6, 0x10, 0xce, 0x3e, 0x6e, 0xe7, 0xe1, 0x53},
		{0x89, 0xa7, 0xa1, 0xf0, 0xe7, 0x04, 0x4f, 0xaa, 0xac, 0xbd, 0x81, 0xc8, 0x6d, 0xf8, 0xa9, 0x61},
		{0x2b, 0x06, 0x01, 0x04, 0x01, 0x9c, 0x78, 0x02, 0x01},
		{0x2b, 0x06, 0x01, 0x04, 0x01, 0x9c, 0x78, 0x02, 0x02},
	}
}

// corimReader takes reference values out of one CoRIM.
type corimReader struct {
	decoder
	file  *File
	o     Options
	id    string
	intel bool // Intel's profile gives negative keys their meaning
}

func readCoRIM(raw []byte, o Options) (File, error) {
	f := File{Form: FormCoRIM}
	d, err := newDecoder()
	if err != nil {
		return f, err
	}
	payload := raw
	switch number, _ := d.tagOf(raw); {
	case number == tagSign1 && o.Trust.Unsigned != "":
		return f, refusal.New(ReasonUnsupported, "the CoRIM is signed: verify it with the signer's key or root, not as an unsigned one")
	case number == tagSign1:
		if payload, err = d.verifySign1(raw, &f, o); err != nil {
			return f, err
		}
	case number != tagUnsignedCoRIM:
		return f, refusal.New(ReasonUnsupported, "CoRIM: got tag %d of an older draft, or damaged bytes; want %d or %d", number, tagSign1, tagUnsignedCoRIM)
	case o.Trust.Unsigned == "":
		return f, refusal.New(ReasonUnsigned, "the CoRIM is not signed: whoever could change the file could name other measurements")
	}
	digest := sha256.Sum256(payload)
	r := corimReader{decoder: d, file: &f, o: o, id: o.ID}
	if r.id == "" {
		r.id = "corim/" + hex.EncodeToString(digest[:6])
	}
	return f, r.corim(payload)
}

// corim reads corim-map.
func (r *corimReader) corim(payload []byte) error {
	content, err := r.tagged("CoRIM", payload, tagUnsignedCoRIM)
	if err != nil {
		return err
	}
	m, err := r.object("CoRIM", content, keyCorimID, keyCorimTags, keyCorimDependent, keyCorimProfile, keyCorimPeriod, keyCorimEntities)
	if err != nil {
		return err
	}
	if err := r.profile(m[keyCorimProfile]); err != nil {
		return err
	}
	if period := m[keyCorimPeriod]; period != nil {
		if err := r.checkPeriod("the CoRIM's validity", period, r.o.Now); err != nil {
			return err
		}
	}
	if m[keyCorimDependent] != nil {
		r.file.note("Not read: the manifests that this one depends on.")
	}
	tags, err := r.list("CoRIM's tags", m[keyCorimTags])
	if err != nil {
		return err
	}
	for i, raw := range tags {
		number, content := r.tagOf(raw)
		if number != tagCoMID {
			r.file.note("Not read: part %d of the CoRIM, of tag %d.", i, number)
			continue
		}
		inner := r.bytesOf(content)
		if inner == nil {
			return refusal.New(ReasonMalformed, "part %d of the CoRIM is no byte string", i)
		}
		if err := r.comid(inner); err != nil {
			return err
		}
	}
	return nil
}

// profile refuses a profile that is not known: it may give every key another meaning.
func (r *corimReader) profile(raw []byte) error {
	if raw == nil {
		return nil
	}
	number, content := r.tagOf(raw)
	switch {
	case number == tagOID && bytes.Equal(r.bytesOf(content), intelProfile()):
		r.intel = true
		return nil
	case number == tagURI:
		var uri string
		if err := r.into("profile", content, &uri); err != nil {
			return err
		}
		if uri == amdProfile {
			return nil
		}
		return refusal.New(ReasonUnsupported, "the profile %q is not known", uri)
	}
	return refusal.New(ReasonUnsupported, "the profile %x is not known", raw[:min(len(raw), 32)])
}

// comid reads concise-mid-tag.
func (r *corimReader) comid(raw []byte) error {
	m, err := r.object("CoMID", raw, keyMidLanguage, keyMidIdentity, keyMidEntities, keyMidLinked, keyMidTriples)
	if err != nil {
		return err
	}
	if m[keyMidLinked] != nil {
		r.file.note("Not read: the links of a CoMID, by which it may replace or supplement another one.")
	}
	var triples object
	if err := r.into("triples", m[keyMidTriples], &triples); err != nil {
		return err
	}
	for _, kind := range sortedKeys(triples) {
		if kind != keyReferenceTriples {
			r.file.note("Not read: triples of kind %d, which are no reference values.", kind)
			continue
		}
		list, err := r.list("reference triples", triples[kind])
		if err != nil {
			return err
		}
		for _, one := range list {
			if err := r.triple(one); err != nil {
				return err
			}
		}
	}
	return nil
}

// triple reads reference-triple-record: what is measured, and what is expected of it.
func (r *corimReader) triple(raw []byte) error {
	parts, err := r.list("reference triple", raw)
	if err != nil {
		return err
	}
	if len(parts) != 2 {
		return refusal.New(ReasonMalformed, "reference triple: got %d parts, want 2", len(parts))
	}
	kind, out, err := r.environment(parts[0])
	if err != nil {
		return err
	}
	measurements, err := r.list("measurements", parts[1])
	if err != nil {
		return err
	}
	if out != "" {
		r.file.note("Left out: %d measurements of %s.", len(measurements), out)
		return nil
	}
	for _, one := range measurements {
		if err := r.measurement(kind, one); err != nil {
			return err
		}
	}
	return nil
}

// environment says whose measurements they are, or why they are left out: values that hold for one
// chip or group alone would hold for all guests here.
func (r *corimReader) environment(raw []byte) (kind evidence.Kind, out string, err error) {
	m, err := r.object("environment", raw, keyClass, keyInstance, keyGroup)
	if err != nil {
		return "", "", err
	}
	if m[keyInstance] != nil || m[keyGroup] != nil {
		return "", "one instance or group", nil
	}
	if m[keyClass] == nil {
		return "", "an environment without a class", nil
	}
	class, err := r.object("class", m[keyClass], keyClassID, keyClassVendor, keyClassModel, keyClassLayer, keyClassIndex)
	if err != nil {
		return "", "", err
	}
	number, content := r.tagOf(class[keyClassID])
	id := r.bytesOf(content)
	amd := slices.ContainsFunc(amdClasses(), func(known []byte) bool { return bytes.Equal(known, id) })
	switch {
	case amd && (number == tagUUID || number == tagOID) && len(class) == 1:
		return evidence.KindSNP, "", nil
	case amd:
		return "", "a class of SEV-SNP with further conditions", nil
	case r.intel && number == tagOID && bytes.HasPrefix(id, intelComponents()):
		return "", "a component of Intel's (the broker judges these by Intel's own collateral)", nil
	case r.intel && id != nil && class[keyClassLayer] == nil && class[keyClassIndex] == nil:
		return evidence.KindTDX, "", nil
	}
	return "", fmt.Sprintf("an environment that this version does not know (class %x)", class[keyClassID]), nil
}

// measurement reads measurement-map and adds the values that it names.
func (r *corimReader) measurement(kind evidence.Kind, raw []byte) error {
	m, err := r.object("measurement", raw, keyMeasurementKey, keyMeasurementValues, keyAuthorizedBy)
	if err != nil {
		return err
	}
	if m[keyAuthorizedBy] != nil {
		r.file.note("Left out: a measurement that holds only if a certain key vouches for the evidence.")
		return nil
	}
	var values object
	if err := r.into("measurement values", m[keyMeasurementValues], &values); err != nil {
		return err
	}
	var key int64 = -1
	if m[keyMeasurementKey] != nil && r.mode.Unmarshal(m[keyMeasurementKey], &key) != nil {
		r.file.note("Left out: a measurement whose key is not a number.")
		return nil
	}
	var lists []map[string]string
	if kind == evidence.KindSNP {
		lists, err = r.snp(key, values)
	} else {
		lists, err = r.tdx(key, values)
	}
	if err != nil {
		return err
	}
	for _, registers := range lists {
		v := policy.ReferenceValue{ID: fmt.Sprintf("%s/%d", r.id, len(r.file.Values)+1), Kind: string(kind), Registers: registers}
		if err := r.file.add(v, r.o, ""); err != nil {
			return err
		}
	}
	return nil
}

// snp takes the launch digest: the measurement of key 0. The other keys are about the host.
func (r *corimReader) snp(key int64, values object) ([]map[string]string, error) {
	if key != 0 {
		r.file.note("Left out: measurement %d of the platform (keys %s). See the checks of require.sev_snp.", key, keyList(values))
		return nil, nil
	}
	if values[valueDigests] == nil {
		r.file.note("Left out: a measurement of the guest without a digest (keys %s).", keyList(values))
		return nil, nil
	}
	if err := r.further(values, valueDigests); err != nil {
		return nil, err
	}
	digest, err := r.digests("launch digest", values[valueDigests])
	if err != nil {
		return nil, err
	}
	return []map[string]string{{evidence.RegisterLaunch: digest}}, nil
}

// tdx takes MRTD, under the profile's key or as its measurement, and RTMRs as integrity registers. A
// set of which MRTD must be a member gives a value for each.
func (r *corimReader) tdx(key int64, values object) ([]map[string]string, error) {
	raw, used := values[valueMRTEE], int64(valueMRTEE)
	if raw == nil && key == keyMRTEE {
		raw, used = values[valueDigests], valueDigests
	}
	if raw == nil || key >= 0 && key != keyMRTEE {
		return nil, r.apart(key, values)
	}
	if err := r.further(values, used, valueRegisters); err != nil {
		return nil, err
	}
	rtmrs, err := r.registers(values[valueRegisters])
	if err != nil {
		return nil, err
	}
	mrtds, err := r.mrtds(raw)
	if err != nil {
		return nil, err
	}
	var out []map[string]string
	for _, mrtd := range mrtds {
		registers := map[string]string{"mrtd": mrtd}
		for name, value := range rtmrs {
			registers[name] = value
		}
		out = append(out, registers)
	}
	return out, nil
}

// apart says what a measurement without an MRTD demands beside the others of its guest: a value of theirs is wider
// than its signer meant.
func (r *corimReader) apart(key int64, values object) error {
	rtmrs, err := r.registers(values[valueRegisters])
	if err != nil {
		return err
	}
	if len(rtmrs) == 0 {
		r.file.note("NOT ENFORCED by any value: a measurement without an MRTD (key %d, values %s).", key, keyList(values))
		return nil
	}
	var list []string
	for name, value := range rtmrs {
		list = append(list, name+": "+value)
	}
	slices.Sort(list)
	r.file.note("NOT ENFORCED by any value: a measurement without an MRTD demands %s (key %d, values %s). Write these registers into the values of the same guest, which accept any.",
		strings.Join(list, ", "), key, keyList(values))
	return nil
}

// further names what else a measurement demands, so that the operator can require it.
func (r *corimReader) further(values object, taken ...int64) error {
	names := map[int64]string{
		0: "version", 1: "svn", 3: "flags", 4: "raw-value", 5: "raw-value-mask", 11: "name",
		-70: "vendor", -71: "model", -72: "tcb date", -73: "isvsvn", -81: "miscselect", -82: "attributes", -84: "mrsigner", -85: "isvprodid", -86: "tcb evaluation number", -88: "tcb status", -89: "advisories",
	}
	var further []string
	for _, key := range sortedKeys(values) {
		switch name := names[key]; {
		case slices.Contains(taken, key):
		case name != "" && (key >= 0 || r.intel):
			further = append(further, name)
		default:
			return refusal.New(ReasonUnsupported, "a measurement has a condition %d that is not known", key)
		}
	}
	if len(further) > 0 {
		r.file.note("NOT ENFORCED by the value: the manifest also demands %s; require it in the policy.", strings.Join(further, ", "))
	}
	return nil
}

// digests is the one SHA-384 digest of digests-type; those of other algorithms say the same.
func (r *corimReader) digests(what string, raw []byte) (string, error) {
	list, err := r.list(what, raw)
	if err != nil {
		return "", err
	}
	found := ""
	for _, one := range list {
		digest, err := r.digest(what, one)
		switch {
		case err != nil:
			return "", err
		case digest != "" && found != "":
			return "", refusal.New(ReasonMalformed, "%s: two digests of SHA-384", what)
		case digest != "":
			found = digest
		}
	}
	if found == "" {
		return "", refusal.New(ReasonUnsupported, "%s: no digest of SHA-384", what)
	}
	return found, nil
}

// digest is a SHA-384 digest; empty if it is of another algorithm.
func (r *corimReader) digest(what string, raw []byte) (string, error) {
	parts, err := r.list(what, raw)
	if err != nil {
		return "", err
	}
	var number int64
	var name string
	if len(parts) == 2 && r.mode.Unmarshal(parts[0], &number) != nil {
		err = r.into(what, parts[0], &name)
	}
	switch {
	case err != nil:
		return "", err
	case len(parts) != 2:
		return "", refusal.New(ReasonMalformed, "%s: a digest of %d parts", what, len(parts))
	case number != namedSHA384 && name != "sha-384":
		return "", nil
	}
	value := r.bytesOf(parts[1])
	if len(value) != digestBytes {
		return "", refusal.New(ReasonMalformed, "%s: got %d bytes, want %d", what, len(value), digestBytes)
	}
	return hex.EncodeToString(value), nil
}

// mrtds reads $tee-digest-type: a digest, digests of several algorithms, or a set of which one must match.
func (r *corimReader) mrtds(raw []byte) ([]string, error) {
	const what = "MRTD"
	if number, content := r.tagOf(raw); number != 0 {
		return r.members(what, number, content)
	}
	list, err := r.list(what, raw)
	if err != nil {
		return nil, err
	}
	const majorArray = 4
	if list[0][0]>>5 == majorArray {
		one, err := r.digests(what, raw)
		return []string{one}, err
	}
	one, err := r.digest(what, raw)
	if err == nil && one == "" {
		err = refusal.New(ReasonUnsupported, "%s: no digest of SHA-384", what)
	}
	return []string{one}, err
}

// members reads a set expression: "is a member of".
func (r *corimReader) members(what string, number uint64, content []byte) (out []string, err error) {
	parts, err := r.list(what, content)
	if err != nil {
		return nil, err
	}
	var operator int64
	if number != tagDigestExpression || len(parts) != 2 || r.mode.Unmarshal(parts[0], &operator) != nil || operator != opIn {
		return nil, refusal.New(ReasonUnsupported, "%s: an expression other than membership of a set", what)
	}
	list, err := r.list(what, parts[1])
	if err != nil {
		return nil, err
	}
	for _, one := range list {
		digest, err := r.digest(what, one)
		if err != nil {
			return nil, err
		}
		if digest != "" {
			out = append(out, digest)
		}
	}
	if len(out) == 0 {
		return nil, refusal.New(ReasonUnsupported, "%s: no digest of SHA-384", what)
	}
	return out, nil
}

// maxRTMR is the last register that a trust domain has.
const maxRTMR = 3

// registers reads integrity-registers: RTMRs by number, or by name.
func (r *corimReader) registers(raw []byte) (map[string]string, error) {
	if raw == nil {
		return nil, nil
	}
	var m map[any]cbor.RawMessage
	if err := r.into("registers", raw, &m); err != nil {
		return nil, err
	}
	out := map[string]string{}
	for key, value := range m {
		name := strings.ToLower(fmt.Sprint(key))
		if n, ok := key.(uint64); ok {
			name = fmt.Sprintf("rtmr%d", n)
		}
		if len(name) != len("rtmr0") || name[:4] != "rtmr" || name[4] < '0' || name[4] > '0'+maxRTMR || out[name] != "" {
			return nil, refusal.New(ReasonUnsupported, "register %v is not known, or comes twice", key)
		}
		digest, err := r.digests(name, value)
		if err != nil {
			return nil, err
		}
		out[name] = digest
	}
	return out, nil
}

func keyList(values object) string {
	var list []string
	for _, key := range sortedKeys(values) {
		list = append(list, fmt.Sprint(key))
	}
	return strings.Join(list, ", ")
}

func sortedKeys(m object) []int64 {
	var list []int64
	for key := range m {
		list = append(list, key)
	}
	slices.Sort(list)
	return list
}
