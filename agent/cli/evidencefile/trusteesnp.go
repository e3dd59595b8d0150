package evidencefile

import (
	"encoding/binary"
	"encoding/json"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// maxChain bounds the certificates that come with a report.
const maxChain = 16

// trusteeSNP reads evidence of Trustee's attester for SEV-SNP: the report taken apart into the
// fields of virtee's library, which are put back where they were (56860, ATTESTATION_REPORT). What
// that library does not know is zero in the result; a report of which it lost something has no
// valid signature any more, and is refused for that.
func trusteeSNP(o *object, s *Supplies) (*Evidence, error) {
	r := o.object("attestation_report")
	report := make([]byte, snpReportBytes)
	for _, f := range []struct {
		at, size int
		names    []string // older and newer
	}{
		{0x00, 4, []string{"version"}}, {0x04, 4, []string{"guest_svn"}}, {0x08, 8, []string{"policy"}}, {0x30, 4, []string{"vmpl"}}, {0x34, 4, []string{"sig_algo"}},
		{0x40, 8, []string{"plat_info"}}, {0x48, 4, []string{"key_info", "_author_key_en"}}, {0x188, 1, []string{"cpuid_fam_id"}}, {0x189, 1, []string{"cpuid_mod_id"}},
		{0x18a, 1, []string{"cpuid_step"}}, {0x1e8, 1, []string{"current_build"}}, {0x1e9, 1, []string{"current_minor"}}, {0x1ea, 1, []string{"current_major"}},
		{0x1ec, 1, []string{"committed_build"}}, {0x1ed, 1, []string{"committed_minor"}}, {0x1ee, 1, []string{"committed_major"}},
		{0x1f8, 8, []string{"launch_mit_vector"}}, {0x200, 8, []string{"current_mit_vector"}},
	} {
		for _, name := range f.names {
			r.number(name, report[f.at:f.at+f.size])
		}
	}
	for _, f := range []struct {
		name     string
		at, size int
	}{
		{"family_id", 0x10, 16}, {"image_id", 0x20, 16}, {"report_data", 0x50, 64}, {"measurement", 0x90, 48}, {"host_data", 0xc0, 32}, {"id_key_digest", 0xe0, 48},
		{"author_key_digest", 0x110, 48}, {"report_id", 0x140, 32}, {"report_id_ma", 0x160, 32}, {"chip_id", 0x1a0, 64},
	} {
		r.fill(f.name, report[f.at:f.at+f.size])
	}
	for name, at := range map[string]int{"current_tcb": 0x38, "reported_tcb": 0x180, "committed_tcb": 0x1e0, "launch_tcb": 0x1f0} {
		r.tcb(name, report[at:at+8])
	}
	for name, at := range map[string]int{"current": 0x1e8, "committed": 0x1ec} {
		if r.has(name) {
			v := r.object(name)
			for i, part := range []string{"build", "minor", "major"} {
				v.number(part, report[at+i:at+i+1])
			}
		}
	}
	signature := r.object("signature")
	signature.fill("r", report[0x2a0:0x2e8])
	signature.fill("s", report[0x2e8:0x330])
	for _, inner := range []*object{o, r, signature} {
		if inner.err != nil {
			return nil, inner.err
		}
	}
	if err := chainOf(o, s); err != nil {
		return nil, err
	}
	e := piece(FormTrusteeSNP, evidence.KindSNP, evidence.Part{Type: evidence.PartSNPReport, Data: report})
	for _, name := range r.unread() {
		if !strings.HasPrefix(name, "_reserved") {
			e.Unread = append(e.Unread, "attestation_report."+name)
		}
	}
	return e, nil
}

// chainOf reads the certificates beside the report, each of which says itself what it is.
func chainOf(o *object, s *Supplies) error {
	if !o.has("cert_chain") {
		o.read["cert_chain"] = true
		return nil
	}
	for _, raw := range o.list("cert_chain", maxChain) {
		entry, err := readObject(raw)
		if err != nil {
			return err
		}
		data := entry.bytes("data")
		if entry.err != nil {
			return entry.err
		}
		if err := s.addDER(bareCertificate(data)); err != nil {
			return refusal.New(ReasonMalformed, "cert_chain: %w", err)
		}
	}
	return nil
}

// number puts a member, if it is there, little-endian into all of out.
func (o *object) number(name string, out []byte) {
	o.read[name] = true
	if !o.has(name) {
		return
	}
	var n uint64
	if json.Unmarshal(o.members[name], &n) != nil || len(out) < 8 && n>>(8*len(out)) != 0 {
		o.fail(name, "not a number of its size")
		return
	}
	var le [8]byte
	binary.LittleEndian.PutUint64(le[:], n)
	copy(out, le[:len(out)])
}

// fill puts a member of bytes, which must have that size, into out.
func (o *object) fill(name string, out []byte) {
	if b := o.bytes(name); len(b) == len(out) {
		copy(out, b)
	} else if o.err == nil {
		o.fail(name, "not bytes of its size")
	}
}

// tcb puts a version into out: with an FMC it is in Turin's layout.
func (o *object) tcb(name string, out []byte) {
	v := o.object(name)
	places := map[string]int{"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7}
	if v.has("fmc") {
		places = map[string]int{"fmc": 0, "bootloader": 1, "tee": 2, "snp": 3, "microcode": 7}
	}
	for part, at := range places {
		v.number(part, out[at:at+1])
	}
	if v.err != nil {
		o.fail(name, v.err.Error())
	}
}
