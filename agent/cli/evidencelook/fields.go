package evidencelook

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli/evidencefile"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/appraise/eventlog"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tdx"
)

// span is a field of fixed place: a number, little-endian, of at most 8 bytes, or bytes.
type span struct {
	name     string
	at, size int
}

const maxNumberBytes = 8

// read are the fields of raw that it is long enough for.
func read(raw []byte, spans []span) (list []field) {
	for _, s := range spans {
		if len(raw) < s.at+s.size {
			continue
		}
		value := raw[s.at : s.at+s.size]
		text := fmt.Sprintf("%x", value)
		if s.size < maxNumberBytes {
			number := make([]byte, maxNumberBytes)
			copy(number, value)
			text = fmt.Sprint(binary.LittleEndian.Uint64(number))
		} else if s.size == maxNumberBytes {
			text = fmt.Sprintf(bitField, binary.LittleEndian.Uint64(value))
		}
		list = append(list, field{s.name, text})
	}
	return list
}

// snpSpans is the layout of a report (56860, ATTESTATION_REPORT).
func snpSpans() []span {
	return []span{
		{"version", 0, 4}, {"guest_svn", 4, 4}, {"policy", 8, 8}, {"family_id", 0x10, 16}, {"image_id", 0x20, 16}, {"vmpl", 0x30, 4},
		{"signature_algorithm", 0x34, 4}, {"current_tcb", 0x38, 8}, {"platform_info", 0x40, 8}, {"key_info", 0x48, 4}, {"report_data", 0x50, 64},
		{"measurement", 0x90, 48}, {"host_data", 0xc0, 32}, {"id_key_digest", 0xe0, 48}, {"author_key_digest", 0x110, 48}, {"report_id", 0x140, 32},
		{"report_id_ma", 0x160, 32}, {"reported_tcb", 0x180, 8}, {"cpuid_family", 0x188, 1}, {"cpuid_model", 0x189, 1}, {"cpuid_stepping", 0x18a, 1},
		{"chip_id", 0x1a0, 64}, {"committed_tcb", 0x1e0, 8}, {"current_build", 0x1e8, 1}, {"current_minor", 0x1e9, 1}, {"current_major", 0x1ea, 1},
		{"committed_build", 0x1ec, 1}, {"committed_minor", 0x1ed, 1}, {"committed_major", 0x1ee, 1}, {"launch_tcb", 0x1f0, 8},
		{"launch_mitigations", 0x1f8, 8}, {"current_mitigations", 0x200, 8},
	}
}

// tdxSpans is the layout of a quote's body (Intel TDX DCAP Quoting Library API, TD report 1.0 and
// 1.5, and what the extended one adds as a whole).
func tdxSpans() []span {
	return []span{
		{"tee_tcb_svn", 0, 16}, {"mr_seam", 16, 48}, {"mr_signer_seam", 64, 48}, {"seam_attributes", 112, 8}, {"td_attributes", 120, 8}, {"xfam", 128, 8},
		{"mr_td", 136, 48}, {"mr_config_id", 184, 48}, {"mr_owner", 232, 48}, {"mr_owner_config", 280, 48}, {"rtmr0", 328, 48}, {"rtmr1", 376, 48},
		{"rtmr2", 424, 48}, {"rtmr3", 472, 48}, {"report_data", 520, 64}, {"tee_tcb_svn2", 584, 16}, {"mr_service_td", 600, 48}, {"extended", 648, 237},
	}
}

// Layout of a paravisor's report, see package hcl.
const (
	hclSNPAt       = 0x20
	hclRequestAt   = hclSNPAt + 0x4a0
	hclVersionAt   = 4
	maxShownEvents = 64
)

// fieldsOf are the fields of a part, read as they lie there.
func fieldsOf(p evidence.Part) []field {
	switch p.Type {
	case evidence.PartSNPReport:
		return read(p.Data, snpSpans())
	case evidence.PartTDXQuote:
		return quoteFields(p.Data)
	case evidence.PartTPMQuote:
		return tpmFields(p.Data)
	case evidence.PartHCLReport:
		return hclFields(p.Data)
	case evidence.PartTCGLog, evidence.PartCCLog:
		return logFields(p)
	case evidence.PartGPUReport:
		nonce := evidencefile.GPUNonce(p.Data)
		return []field{{"nonce", fmt.Sprintf("%x", nonce)}}
	case evidence.PartGPUChain:
		return chainFields(p.Data)
	}
	if p.Type.Certificate() {
		return certificateFields(p.Data)
	}
	return nil
}

func quoteFields(raw []byte) []field {
	list := read(raw, []span{{"version", 0, 2}, {"attestation_key_type", 2, 2}, {"tee_type", 4, 4}, {"qe_vendor_id", 12, 16}, {"user_data", 28, 20}})
	q, err := tdx.Parse(raw)
	if err != nil {
		return append(list, field{"error", err.Error()})
	}
	return append(list, read(q.Body(), tdxSpans())...)
}

func tpmFields(raw []byte) []field {
	q, err := evidence.ParseTPMQuote(raw)
	if err != nil {
		return []field{{"error", err.Error()}}
	}
	list := []field{{"nonce", fmt.Sprintf("%x", evidencefile.TPMNonce(raw))}, {"attest", fmt.Sprintf("%x", q.Attest)}, {"public", fmt.Sprintf("%x", q.Public)}, {"bank", q.Bank}}
	for _, n := range slices.Sorted(maps.Keys(q.PCRs)) {
		list = append(list, field{fmt.Sprintf("pcr%d", n), q.PCRs[n].String()})
	}
	return list
}

// hclFields are the header's, the CPU's report, and the paravisor's JSON.
func hclFields(raw []byte) []field {
	list := read(raw, []span{{"version", hclVersionAt, 4}, {"request_type", 12, 4}})
	list = append(list, read(raw, []span{{"request_version", hclRequestAt + 4, 4}, {"report_type", hclRequestAt + 8, 4}, {"report_data_hash", hclRequestAt + 12, 4}})...)
	const snpType = 2
	if len(raw) > hclRequestAt+8 && raw[hclRequestAt+8] == snpType {
		list = append(list, read(raw[hclSNPAt:hclRequestAt], snpSpans())...)
	} else if len(raw) > hclRequestAt {
		list = append(list, field{"tdreport", fmt.Sprintf("%x", raw[hclSNPAt:hclSNPAt+1024])})
	}
	if begin, end := bytes.IndexByte(raw, '{'), bytes.LastIndexByte(raw, '}'); begin >= 0 && begin < end && len(raw) > hclRequestAt {
		begin = hclRequestAt + max(bytes.IndexByte(raw[hclRequestAt:], '{'), 0)
		list = append(list, field{"runtime_data", string(raw[begin : end+1])})
	}
	return list
}

// logFields are the values that a log leads to, of the kind that it can be read as.
func logFields(p evidence.Part) []field {
	attempts := []struct {
		format eventlog.Format
		bank   eventlog.Bank
		name   string
	}{{eventlog.CCEL, eventlog.SHA384, "rtmr"}, {eventlog.TCG, eventlog.SHA256, "pcr"}, {eventlog.TCG, eventlog.SHA384, "pcr"}}
	var last error
	for _, a := range attempts {
		registers, err := eventlog.Replay(p.Data, a.format, a.bank)
		if err != nil {
			last = err
			continue
		}
		list := []field{{"format", string(a.format)}, {"bank", string(a.bank)}}
		for _, n := range slices.Sorted(maps.Keys(registers)) {
			list = append(list, field{fmt.Sprintf("%s%d", a.name, n), registers[n].String()})
		}
		return list
	}
	return []field{{"error", last.Error()}}
}

func chainFields(text []byte) (list []field) {
	for i := 0; i < maxShownEvents; i++ {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		list = append(list, certificateFields(block.Bytes)...)
	}
	return list
}

func certificateFields(der []byte) []field {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return []field{{"error", err.Error()}}
	}
	return []field{{"subject", c.Subject.String()}, {"issuer", c.Issuer.String()}, {"serial", fmt.Sprintf("%x", c.SerialNumber)},
		{"valid", c.NotBefore.UTC().Format(time.RFC3339) + " to " + c.NotAfter.UTC().Format(time.RFC3339)}}
}
