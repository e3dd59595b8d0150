package valuefile

import (
	"cmp"
	"crypto"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"google.golang.org/protobuf/encoding/protowire"
)

// Fields of Google's messages (github.com/google/gce-tcb-verifier, proto/endorsement.proto).
const (
	// VMLaunchEndorsement.
	fieldGolden, fieldSignature = 1, 2
	// VMGoldenMeasurement.
	fieldTimestamp, fieldChange, fieldCommit, fieldCert = 1, 2, 3, 4
	fieldDigest, fieldBundle, fieldSNP, fieldTDX        = 5, 6, 7, 8
	// VMSevSnp.
	fieldSNPVersion, fieldSNPMeasurements, fieldFamily, fieldImage = 1, 2, 3, 4
	fieldGuestPolicy, fieldSNPBundle                               = 5, 6
	// VMTdx, and its measurements.
	fieldTDXVersion, fieldTDXMeasurements     = 1, 2
	fieldRAM, fieldEarlyAccept, fieldMRTD     = 1, 2, 3
	fieldKey, fieldValue, fieldSeconds, nanos = 1, 2, 1, 2
)

const digestBytes = 48 // SHA-384

// isEndorsement recognises an outer message that begins with its payload.
func isEndorsement(raw []byte) bool {
	const tag = fieldGolden<<3 | byte(protowire.BytesType)
	return len(raw) > 0 && raw[0] == tag
}

// endorsementScheme is the only one that Google signs with.
func endorsementScheme() scheme { return scheme{hash: crypto.SHA256, pss: true} }

func readEndorsement(raw []byte, o Options) (File, error) {
	f := File{Form: FormEndorsement}
	outer, err := protoFields("launch endorsement", raw, nil, nil)
	if err != nil {
		return f, err
	}
	var payload, signature []byte
	for _, field := range outer {
		switch field.num {
		case fieldGolden:
			payload = field.bytes
		case fieldSignature:
			signature = field.bytes
		default:
			return f, refusal.New(ReasonMalformed, "launch endorsement: field %d is not signed and not known", field.num)
		}
	}
	golden, err := protoFields("golden measurement", payload, []protowire.Number{fieldChange}, nil)
	if err != nil {
		return f, err
	}
	chain, err := goldenChain(golden)
	if err != nil {
		return f, err
	}
	trusted, err := o.Trust.candidates(chain, o.Now)
	if err != nil {
		return f, err
	}
	who, err := endorsementScheme().verify(trusted, payload, signature)
	if err != nil {
		return f, err
	}
	f.signedBy(who.name, signature)
	return f, f.golden(golden, o)
}

// goldenChain is the signer's certificate and those between it and a root, out of the payload: their
// signatures speak for them, and the root is the operator's.
func goldenChain(golden []protoField) (chain [][]byte, err error) {
	var between [][]byte
	for _, field := range golden {
		switch {
		case field.num == fieldCert && len(field.bytes) > 0:
			chain = [][]byte{field.bytes}
		case field.num == fieldBundle && len(field.bytes) > 0:
			err = eachPEM(field.bytes, func(b *pem.Block) error {
				between = append(between, b.Bytes)
				return nil
			})
		}
	}
	if err != nil || chain == nil {
		return nil, err
	}
	return append(chain, between...), nil
}

// golden takes the values of a verified payload.
func (f *File) golden(golden []protoField, o Options) error {
	id := o.ID
	for _, field := range golden {
		if field.num == fieldDigest && id == "" && len(field.bytes) == digestBytes {
			id = "google/" + hex.EncodeToString(field.bytes[:6])
		}
	}
	if id == "" {
		id = "google/firmware"
	}
	f.note("These values are of Google's firmware alone: any image starts under them. Require secure boot and the registers of what was started, too (docs/clouds.md).")
	for _, field := range golden {
		var err error
		switch field.num {
		case fieldTimestamp:
			err = f.timestamp(field.bytes, o.Now)
		case fieldSNP:
			err = f.goldenSNP(field.bytes, id, o)
		case fieldTDX:
			err = f.goldenTDX(field.bytes, id, o)
		case fieldChange, fieldCommit, fieldCert, fieldDigest, fieldBundle:
		default:
			f.note("Not read: field %d of the golden measurement, which this version does not know.", field.num)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *File) timestamp(raw []byte, now time.Time) error {
	fields, err := protoFields("timestamp", raw, []protowire.Number{fieldSeconds, nanos}, nil)
	if err != nil {
		return err
	}
	for _, field := range fields {
		if field.num != fieldSeconds {
			continue
		}
		if field.value > math.MaxInt32*8 {
			return refusal.New(ReasonMalformed, "timestamp: got %d seconds", field.value)
		}
		made := time.Unix(int64(field.value), 0).UTC()
		if made.After(now) {
			return refusal.New(ReasonPeriod, "the endorsement was made on %s, which is in the future", made.Format(time.RFC3339))
		}
		f.note("Made on %s.", made.Format(time.RFC3339))
	}
	return nil
}

// goldenSNP takes a launch digest for each number of virtual processors.
func (f *File) goldenSNP(raw []byte, id string, o Options) error {
	fields, err := protoFields("SEV-SNP part", raw, []protowire.Number{fieldSNPVersion, fieldGuestPolicy}, []protowire.Number{fieldSNPMeasurements})
	if err != nil {
		return err
	}
	byProcessors := map[uint64][]byte{}
	for _, field := range fields {
		switch field.num {
		case fieldSNPMeasurements:
			entry, err := protoFields("SEV-SNP measurement", field.bytes, []protowire.Number{fieldKey}, nil)
			if err != nil {
				return err
			}
			count, digest := entryOf(entry)
			if count > math.MaxUint32 || len(digest) != digestBytes || len(entry) != 2 {
				return refusal.New(ReasonMalformed, "SEV-SNP measurement for %d virtual processors: got %d bytes, want %d", count, len(digest), digestBytes)
			}
			if byProcessors[count] != nil {
				return refusal.New(ReasonMalformed, "two SEV-SNP measurements are for %d virtual processors", count)
			}
			byProcessors[count] = digest
		case fieldSNPVersion:
			f.note("Google's version number of the firmware on SEV-SNP is %d; reports do not carry it.", field.value)
		case fieldGuestPolicy:
			f.note("SEV-SNP guests are launched under guest policy %#x: see require.sev_snp.guest_policy.", field.value)
		case fieldFamily, fieldImage, fieldSNPBundle: // not in reports of GCE's guests, says the message's description
		default:
			f.note("Not read: field %d of the SEV-SNP part, which this version does not know.", field.num)
		}
	}
	for _, count := range slices.Sorted(maps.Keys(byProcessors)) {
		err := f.add(policy.ReferenceValue{
			ID: fmt.Sprintf("%s/snp/vcpus-%d", id, count), Kind: string(evidence.KindSNP),
			Registers:   map[string]string{evidence.RegisterLaunch: hex.EncodeToString(byProcessors[count])},
			Description: fmt.Sprintf("GCE firmware, %d virtual processors", count),
		}, o, evidence.CoversFirmware)
		if err != nil {
			return err
		}
	}
	return nil
}

func entryOf(entry []protoField) (key uint64, value []byte) {
	for _, field := range entry {
		switch field.num {
		case fieldKey:
			key = field.value
		case fieldValue:
			value = field.bytes
		}
	}
	return key, value
}

// goldenTDX takes an MRTD for each amount of memory.
func (f *File) goldenTDX(raw []byte, id string, o Options) error {
	fields, err := protoFields("TDX part", raw, []protowire.Number{fieldTDXVersion}, []protowire.Number{fieldTDXMeasurements})
	if err != nil {
		return err
	}
	var list []tdxMeasurement
	for _, field := range fields {
		switch field.num {
		case fieldTDXMeasurements:
			m, err := parseTDXMeasurement(field.bytes)
			if err != nil {
				return err
			}
			list = append(list, m)
		case fieldTDXVersion:
			f.note("Google's version number of the firmware on TDX is %d; quotes do not carry it.", field.value)
		default:
			f.note("Not read: field %d of the TDX part, which this version does not know.", field.num)
		}
	}
	slices.SortStableFunc(list, func(a, b tdxMeasurement) int { return cmp.Compare(a.id(), b.id()) })
	for i, m := range list {
		if i > 0 && m.id() == list[i-1].id() {
			return refusal.New(ReasonMalformed, "two TDX measurements are for the same machine, %s", m.id())
		}
		err := f.add(policy.ReferenceValue{
			ID: id + "/tdx/" + m.id(), Kind: string(evidence.KindTDX), Registers: map[string]string{"mrtd": hex.EncodeToString(m.mrtd)},
			Description: fmt.Sprintf("GCE firmware, %d GiB of memory", m.gibibytes),
		}, o, evidence.CoversFirmware)
		if err != nil {
			return err
		}
	}
	return nil
}

// tdxMeasurement is the MRTD of one size of machine.
type tdxMeasurement struct {
	gibibytes   uint64
	earlyAccept bool
	mrtd        []byte
}

func (m tdxMeasurement) id() string {
	if m.earlyAccept {
		return fmt.Sprintf("ram-%d-accepted-early", m.gibibytes)
	}
	return fmt.Sprintf("ram-%d", m.gibibytes)
}

// parseTDXMeasurement refuses fields that it does not know: one may say for which machines the MRTD is.
func parseTDXMeasurement(raw []byte) (m tdxMeasurement, err error) {
	fields, err := protoFields("TDX measurement", raw, []protowire.Number{fieldRAM, fieldEarlyAccept}, nil)
	if err != nil {
		return m, err
	}
	for _, field := range fields {
		switch field.num {
		case fieldRAM:
			m.gibibytes = field.value
		case fieldEarlyAccept:
			m.earlyAccept = field.value != 0
		case fieldMRTD:
			m.mrtd = field.bytes
		default:
			return m, refusal.New(ReasonUnsupported, "TDX measurement: field %d is not known", field.num)
		}
	}
	if m.gibibytes > math.MaxUint32 || len(m.mrtd) != digestBytes {
		return m, refusal.New(ReasonMalformed, "TDX measurement for %d GiB: got %d bytes, want %d", m.gibibytes, len(m.mrtd), digestBytes)
	}
	return m, nil
}
