package appraise

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// reportSize is the size of an SEV-SNP attestation report; its first signedSize
// bytes are signed.
const (
	reportSize = 0x4a0
	signedSize = 0x2a0
)

// Report versions that this package knows.
const minReportVersion, maxReportVersion = 2, 5

// signerKind says which key signed a report.
type signerKind uint32

const (
	signerVCEK signerKind = 0
	signerVLEK signerKind = 1
)

// String is the common name of certificates of this kind of key.
func (s signerKind) String() string {
	if s == signerVLEK {
		return "SEV-VLEK"
	}
	return "SEV-VCEK"
}

const (
	algorithmP384SHA384 = 1
	policyMigrateMA     = 1 << 18
	policyDebug         = 1 << 19
)

// report is a parsed attestation report. Its fields are copies.
type report struct {
	version, guestSVN, vmpl, algorithm uint32
	policy, platformInfo               uint64
	authorKeyEnabled, chipMasked       bool
	signer                             signerKind
	familyID, imageID                  []byte
	reportData, measurement, hostData  []byte
	idKeyDigest, authorKeyDigest       []byte
	reportID, reportIDMA, chipID       []byte
	current, reported                  uint64
	committed, launch                  uint64
	family, model                      byte // CPUID, version 3 and later
	currentVersion, committedVersion   string
	launchMitigations                  uint64
	currentMitigations                 uint64
	signed                             []byte
	r, s                               []byte // little-endian, 72 bytes each
}

// parseReport reads the fixed layout. What a version does not have stays zero.
func parseReport(raw []byte) (*report, error) {
	if len(raw) != reportSize {
		return nil, refusal.New(ReasonReportSize, "%d bytes, a report has %d", len(raw), reportSize)
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(raw[at:]) }
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(raw[at:]) }
	field := func(at, size int) []byte { return slices.Clone(raw[at : at+size]) }
	r := &report{version: u32(0)}
	if r.version < minReportVersion || r.version > maxReportVersion {
		return nil, refusal.New(ReasonReportVersion, "version %d; %d to %d are known", r.version, minReportVersion, maxReportVersion)
	}
	r.guestSVN, r.policy, r.familyID, r.imageID = u32(0x04), u64(0x08), field(0x10, 16), field(0x20, 16)
	r.vmpl, r.algorithm, r.current, r.platformInfo = u32(0x30), u32(0x34), u64(0x38), u64(0x40)
	keyInfo := u32(0x48)
	r.authorKeyEnabled, r.chipMasked, r.signer = keyInfo&1 != 0, keyInfo&2 != 0, signerKind(keyInfo>>2&7)
	r.reportData, r.measurement, r.hostData = field(0x50, 64), field(0x90, 48), field(0xc0, 32)
	r.idKeyDigest, r.authorKeyDigest = field(0xe0, 48), field(0x110, 48)
	r.reportID, r.reportIDMA, r.reported = field(0x140, 32), field(0x160, 32), u64(0x180)
	if r.version >= 3 {
		r.family, r.model = raw[0x188], raw[0x189]
	}
	r.chipID, r.committed = field(0x1a0, 64), u64(0x1e0)
	r.currentVersion = fmt.Sprintf("%d.%d.%d", raw[0x1ea], raw[0x1e9], raw[0x1e8])
	r.committedVersion = fmt.Sprintf("%d.%d.%d", raw[0x1ee], raw[0x1ed], raw[0x1ec])
	r.launch = u64(0x1f0)
	if r.version >= 5 {
		r.launchMitigations, r.currentMitigations = u64(0x1f8), u64(0x200)
	}
	r.signed, r.r, r.s = field(0, signedSize), field(0x2a0, 72), field(0x2e8, 72)
	if err := r.check(); err != nil {
		return nil, err
	}
	if err := checkReserved(raw, r.version); err != nil {
		return nil, err
	}
	return r, nil
}

// checkReserved refuses reports with content where their version has none: a
// field that this package does not know, or, behind the signature, bytes that
// nobody signed. Bits of the policy and the platform are not reserved in this
// sense; they are claims.
func checkReserved(raw []byte, version uint32) error {
	ranges := [][2]int{{0x4c, 0x50}, {0x18b, 0x1a0}, {0x1eb, 0x1ec}, {0x1ef, 0x1f0}, {0x208, signedSize}, {0x330, reportSize}}
	if version < 3 {
		ranges = append(ranges, [2]int{0x188, 0x18b})
	}
	if version < 5 {
		ranges = append(ranges, [2]int{0x1f8, 0x208})
	}
	for _, r := range ranges {
		if !allZero(raw[r[0]:r[1]]) {
			return refusal.New(ReasonReserved, "bytes %#x to %#x of a version %d report are not zero", r[0], r[1], version)
		}
	}
	if keyInfo := binary.LittleEndian.Uint32(raw[0x48:]); keyInfo>>5 != 0 {
		return refusal.New(ReasonReserved, "key information %#x has unknown bits", keyInfo)
	}
	return nil
}

// check refuses what no later step could make sense of.
func (r *report) check() error {
	if r.algorithm != algorithmP384SHA384 {
		return refusal.New(ReasonSignatureAlgorithm, "algorithm %d", r.algorithm)
	}
	if r.signer != signerVCEK && r.signer != signerVLEK {
		return refusal.New(ReasonSigningKey, "signing key %d", r.signer)
	}
	return nil
}

// claims are what the report says, in the product's TCB layout.
func (r *report) claims(p product, k *chipKey, software bool) evidence.Claims {
	authorKey := r.authorKeyDigest
	if !r.authorKeyEnabled {
		authorKey = make([]byte, 48)
	}
	tcb := evidence.TCBs{Current: p.tcb(r.current), Reported: p.tcb(r.reported), Committed: p.tcb(r.committed), Launch: p.tcb(r.launch)}
	return evidence.Claims{
		Format: evidence.ClaimsFormat, Kind: evidence.KindSNP, Platform: evidence.Product(p), SoftwareTEE: software,
		Debug: r.policy&policyDebug != 0, Migratable: r.policy&policyMigrateMA != 0, Firmware: firmwareWords(p, tcb.Reported),
		Registers: []evidence.Measured{evidence.LaunchRegister(r.measurement)},
		SNP: &evidence.SNPClaims{
			ReportVersion: r.version,
			Measurement:   r.measurement, HostData: r.hostData, ReportData: r.reportData, ReportID: r.reportID, ReportIDMA: r.reportIDMA,
			FamilyID: r.familyID, ImageID: r.imageID, IDKeyDigest: r.idKeyDigest, AuthorKeyDigest: authorKey, GuestSVN: r.guestSVN,
			ChipID: r.chipID, VMPL: r.vmpl, TCB: tcb,
			PolicyBits: evidence.PolicyBits(r.policy), PlatformInfo: evidence.PlatformInfo(r.platformInfo),
			CurrentVersion: r.currentVersion, CommittedVersion: r.committedVersion,
			LaunchMitigations: r.launchMitigations, CurrentMitigations: r.currentMitigations,
			VLEK: r.signer == signerVLEK, CSPID: k.cspID, ChipMasked: r.chipMasked,
		},
	}
}

// firmwareWords is a version of the platform for people.
func firmwareWords(p product, t evidence.TCB) string {
	words := fmt.Sprintf("bootloader %d, tee %d, snp %d, microcode %d", t.BootLoader, t.TEE, t.SNP, t.Microcode)
	if p == turin {
		words = fmt.Sprintf("fmc %d, ", t.FMC) + words
	}
	return words
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }
