package measure

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
	"github.com/anchorhold/anchorhold/image/gpt"
	"github.com/anchorhold/anchorhold/image/gpt/gpttest"
	"github.com/anchorhold/anchorhold/image/measure/firmware"
	"github.com/anchorhold/anchorhold/image/measure/firmware/firmwaretest"
	"github.com/anchorhold/anchorhold/image/measure/pcr"
	"github.com/anchorhold/anchorhold/image/measure/snp"
	"github.com/anchorhold/anchorhold/image/measure/uki"
	"github.com/anchorhold/anchorhold/image/measure/uki/ukitest"
	"github.com/anchorhold/anchorhold/keybroker/appraise/eventlog"
	"github.com/anchorhold/anchorhold/keybroker/policy/publication"
)

var made = time.Date(2026, 12, 1, 17, 0, 0, 5, time.UTC)

// event is one of a log.
type event struct {
	register int
	digest   []byte
}

// log is a TCG log of one bank, or a guest's own where the registers are RTMRs counted from 1.
func log(bank pcr.Bank, events ...event) []byte {
	le := binary.LittleEndian
	algorithm, size := uint16(0xb), uint16(32)
	if bank == pcr.SHA384 {
		algorithm, size = 0xc, 48
	}
	header := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2)
	header = le.AppendUint32(header, 1)
	header = le.AppendUint16(le.AppendUint16(header, algorithm), size)
	header = append(header, 0)
	out := le.AppendUint32(le.AppendUint32(nil, 0), 3) // register 0, NO_ACTION
	out = append(out, make([]byte, 20)...)
	out = append(le.AppendUint32(out, uint32(len(header))), header...)
	for _, e := range events {
		out = le.AppendUint32(le.AppendUint32(out, uint32(e.register)), 0xd) // IPL
		out = le.AppendUint16(le.AppendUint32(out, 1), algorithm)
		out = append(append(out, e.digest...), 0, 0, 0, 0)
	}
	return out
}

// folder has an image, firmware, a disk and logs of its boot.
func folder(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	raw := ukitest.Image(257, ukitest.Usual("quiet")...)
	image, err := uki.Open(raw)
	if err != nil {
		tb.Fatal(err)
	}
	table, err := pcr.PartitionTable(bytes.NewReader(gpttest.Disk(gpttest.Partition{Type: gpt.TypeSystem})))
	if err != nil {
		tb.Fatal(err)
	}
	started, err := pcr.RTMR1(image, table)
	if err != nil {
		tb.Fatal(err)
	}
	ccel := []event{{1, pcr.SHA384.Sum([]byte("firmware"))}, {3, pcr.SHA384.Sum([]byte("command line"))}}
	for _, e := range started {
		ccel = append(ccel, event{2, e.Digest})
	}
	for name, data := range map[string][]byte{
		"web.efi": raw, "OVMF.fd": firmwaretest.AmdSev().Make(), "disk.raw": gpttest.Disk(gpttest.Partition{Type: gpt.TypeSystem}),
		"tcg": log(pcr.SHA256, event{7, pcr.SHA256.Sum([]byte("variables"))}), "ccel": log(pcr.SHA384, ccel...),
		"vmlinuz": []byte("kernel"), "initrd": []byte("disk"), "new.efi": ukitest.Image(258, ukitest.Usual("quiet")...),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

const whole = `format: 1
name: images/web-7
image: {uki: web.efi, disk: disk.raw, initrd: systemd}
tpm: {bank: sha256, event_log: tcg}
sev_snp:
  - {firmware: OVMF.fd, vmm: qemu, vcpus: [1, 4], cpus: [EPYC-Milan, EPYC-Turin], guest_features: 0x1, kernel_hashes: true}
  - {name: direct, firmware: OVMF.fd, vmm: qemu, vcpus: [2], signature: 0x800f12, guest_features: 0x21, kernel_hashes: true, kernel: vmlinuz, initrd: initrd, cmdline: quiet}
  - {firmware: OVMF.fd, vmm: ec2, vcpus: [2], guest_features: 1}
tdx:
  - {firmware: OVMF.fd, page_order: by-page, event_log: ccel}
clouds: [gce, azure, aws]
`

func compute(tb testing.TB, dir, text string) (*publication.Statement, error) {
	tb.Helper()
	p, err := ParsePlatform([]byte(text))
	if err != nil {
		return nil, err
	}
	return Compute(p, dir, made)
}

func find(tb testing.TB, s *publication.Statement, id string) publication.Value {
	tb.Helper()
	at := slices.IndexFunc(s.Values, func(v publication.Value) bool { return v.ID == "images/web-7/"+id })
	if at < 0 {
		tb.Fatalf("no value %s", id)
	}
	return s.Values[at]
}

// TestAWholePlatform: every machine has its value, a publisher can sign all of it, and nothing is said to be more
// than it is.
func TestAWholePlatform(t *testing.T) {
	s, err := compute(t, folder(t), whole)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, v := range s.Values {
		ids = append(ids, strings.TrimPrefix(v.ID, "images/web-7/")+" "+v.Covers)
	}
	want := []string{"vtpm/enter-initrd image", "vtpm/leave-initrd image", "vtpm/sysinit image", "vtpm/ready image",
		"sev-snp/qemu/epyc-milan/1 image", "sev-snp/qemu/epyc-milan/4 image", "sev-snp/qemu/epyc-turin/1 image", "sev-snp/qemu/epyc-turin/4 image",
		"sev-snp/direct/0x800f12/2 image", "sev-snp/ec2/2 firmware", "tdx/qemu image"}
	if !slices.Equal(ids, want) || len(s.Gaps) != 5 || s.Made != "2026-12-01T17:00:00Z" {
		t.Errorf("got %v, %d gaps, %s, want %v", ids, len(s.Gaps), s.Made, want)
	}
	ready, td := find(t, s, "vtpm/ready"), find(t, s, "tdx/qemu")
	if fmt.Sprint(ready.Checked) != "map[pcr11:vectors pcr12:formula pcr4:vectors pcr7:replay]" ||
		fmt.Sprint(td.Checked) != "map[mrtd:vectors rtmr0:replay rtmr1:formula rtmr2:replay rtmr3:formula]" {
		t.Errorf("%v, %v", ready.Checked, td.Checked)
	}
	if ready.Registers["pcr11"] == find(t, s, "vtpm/sysinit").Registers["pcr11"] || ready.Registers["pcr4"] != find(t, s, "vtpm/sysinit").Registers["pcr4"] {
		t.Error("phases differ in another register than PCR 11")
	}
	var inputs []string
	for _, in := range s.Inputs {
		inputs = append(inputs, in.Name)
	}
	if len(inputs) != 10 || !slices.Contains(inputs, "image.uki web.efi") || !slices.Contains(inputs, "sev_snp[1].kernel vmlinuz") {
		t.Errorf("inputs %q", inputs)
	}
	k, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Wipe()
	if _, err := publication.Sign(k, s); err != nil {
		t.Error(err)
	}
	again, err := compute(t, filepath.Dir(filepath.Join(folder(t), "x")), whole)
	if err != nil || fmt.Sprint(again) != fmt.Sprint(s) {
		t.Errorf("another time: %v", err)
	}
}

// TestValuesAreThoseOfThePackagesBelow: by hand, for the one whose kernel is the image, and that without.
func TestValuesAreThoseOfThePackagesBelow(t *testing.T) {
	dir := folder(t)
	s, err := compute(t, dir, whole)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "web.efi"))
	if err != nil {
		t.Fatal(err)
	}
	image, err := firmware.Parse(firmwaretest.AmdSev().Make())
	if err != nil {
		t.Fatal(err)
	}
	k := snp.HashKernel(raw, nil, "")
	want, err := snp.Digest(image, snp.Machine{VMM: snp.QEMU, VCPUs: 4, Signature: snp.Signature(26, 0, 0), Features: 1}, &k)
	if got := find(t, s, "sev-snp/qemu/epyc-turin/4").Registers["launch"]; err != nil || got != hex.EncodeToString(want[:]) {
		t.Errorf("got %s, %v, want %x", got, err, want)
	}
	want, err = snp.Digest(image, snp.Machine{VMM: snp.EC2, VCPUs: 2, Features: 1}, nil)
	if got := find(t, s, "sev-snp/ec2/2").Registers["launch"]; err != nil || got != hex.EncodeToString(want[:]) {
		t.Errorf("got %s, %v, want %x", got, err, want)
	}
}

// TestWhatCannotBeComputedIsAGap, with what replaces it.
func TestWhatCannotBeComputedIsAGap(t *testing.T) {
	dir := folder(t)
	for what, c := range map[string]struct{ text, covers, gaps string }{
		"no log of the TPM": {"image: {uki: web.efi, initrd: plain}\ntpm: {bank: sha384}\n", "image image", "pcr7"},
		"a new stub":        {"image: {uki: new.efi, initrd: plain}\ntpm: {bank: sha256}\n", "", "pcr4+pcr11+pcr12"},
		"no disk":           {"image: {uki: web.efi}\ntdx: [{firmware: OVMF.fd, page_order: by-page, event_log: ccel}]\n", "firmware", "rtmr1"},
		"no image":          {"image: {disk: disk.raw}\ntdx: [{firmware: OVMF.fd, page_order: by-section, event_log: ccel}]\n", "firmware", "rtmr1"},
		"a new stub on TDX": {"image: {uki: new.efi, disk: disk.raw}\ntdx: [{firmware: OVMF.fd, page_order: by-page, event_log: ccel}]\n", "firmware", "rtmr1"},
		"no log on TDX":     {"image: {uki: web.efi, disk: disk.raw}\ntdx: [{firmware: OVMF.fd, page_order: by-page}]\n", "image", "rtmr0+rtmr2"},
	} {
		s, err := compute(t, dir, "format: 1\nname: images/web-7\n"+c.text)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		var covers, gaps []string
		for _, v := range s.Values {
			covers = append(covers, v.Covers)
		}
		for _, g := range s.Gaps {
			gaps = append(gaps, strings.Join(g.Registers, "+"))
		}
		if strings.Join(covers, " ") != c.covers || strings.Join(gaps, " ") != c.gaps {
			t.Errorf("%s: covers %v, gaps %v", what, covers, gaps)
		}
	}
}

// TestLogsMustFit: a register that the log lacks, another image's log, and what is no log.
func TestLogsMustFit(t *testing.T) {
	dir := folder(t)
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("other", log(pcr.SHA384, event{1, pcr.SHA384.Sum(nil)}, event{2, pcr.SHA384.Sum(nil)}, event{3, pcr.SHA384.Sum(nil)}))
	write("no0", log(pcr.SHA384, event{2, pcr.SHA384.Sum(nil)}, event{3, pcr.SHA384.Sum(nil)}))
	write("no7", log(pcr.SHA256, event{4, pcr.SHA256.Sum(nil)}))
	write("none", []byte("no log"))
	td := func(name string) string {
		return "image: {uki: web.efi, disk: disk.raw}\ntdx: [{firmware: OVMF.fd, page_order: by-page, event_log: " + name + "}]\n"
	}
	tpm := func(name string) string {
		return "image: {uki: web.efi, initrd: plain}\ntpm: {bank: sha256, event_log: " + name + "}\n"
	}
	for what, c := range map[string]struct {
		text string
		want refusal.Reason
	}{
		"its own": {td("ccel"), ""}, "another image's": {td("other"), ReasonLog}, "without RTMR0": {td("no0"), ReasonLog}, "no log": {td("none"), eventlog.ReasonMalformed},
		"a TPM's": {tpm("tcg"), ""}, "without PCR 7": {tpm("no7"), ReasonLog}, "no TPM's log": {tpm("none"), eventlog.ReasonMalformed}, "of another bank": {tpm("other"), eventlog.ReasonBank},
	} {
		_, err := compute(t, dir, "format: 1\nname: images/web-7\n"+c.text)
		refusaltest.Want(t, what, err, c.want)
	}
}

// TestTheRealLogOfATrustDomain: RTMR0 and RTMR2 of the log of a guest of Google's are those of its quote.
func TestTheRealLogOfATrustDomain(t *testing.T) {
	dir, quote := folder(t), evidencetest.Read(t, "tdx", "03-v4-gcp-cos113", "quote.bin")
	if err := os.WriteFile(filepath.Join(dir, "cos"), evidencetest.Read(t, "tdx", "03-v4-gcp-cos113", "ccel.bin"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := compute(t, dir, "format: 1\nname: images/web-7\ntdx: [{firmware: OVMF.fd, page_order: by-page, event_log: cos}]\n")
	if err != nil {
		t.Fatal(err)
	}
	const rtmr0, rtmr2, size = 48 + 328, 48 + 424, 48
	v := find(t, s, "tdx/qemu")
	if v.Registers["rtmr0"] != hex.EncodeToString(quote[rtmr0:rtmr0+size]) || v.Registers["rtmr2"] != hex.EncodeToString(quote[rtmr2:rtmr2+size]) {
		t.Errorf("%v", v.Registers)
	}
}

// TestDescriptionsAreChecked: each has one fault.
func TestDescriptionsAreChecked(t *testing.T) {
	dir := folder(t)
	snpOf := func(change string) string {
		return "image: {uki: web.efi}\nsev_snp: [{firmware: OVMF.fd, vmm: qemu, vcpus: [1], cpus: [EPYC], guest_features: 1" + change + "}]\n"
	}
	tdxOf := func(fields string) string { return "tdx: [{" + fields + "}]\n" }
	many := func(n int, one string) string { return strings.TrimSuffix(strings.Repeat(one+", ", n), ", ") }
	for what, c := range map[string]struct {
		text string
		want refusal.Reason
	}{
		"good":                  {snpOf(""), ""},
		"nothing":               {"", ReasonPlatform},
		"an unknown field":      {snpOf(", colour: red"), ReasonPlatform},
		"an unknown initrd":     {"image: {uki: web.efi, initrd: dracut}\ntpm: {bank: sha256}\n", ReasonPlatform},
		"no initrd":             {"image: {uki: web.efi}\ntpm: {bank: sha256}\n", ReasonPlatform},
		"no image for PCRs":     {"image: {initrd: plain}\ntpm: {bank: sha256}\n", ReasonPlatform},
		"no bank":               {"image: {uki: web.efi, initrd: plain}\ntpm: {event_log: tcg}\n", ReasonPlatform},
		"an unknown bank":       {"image: {uki: web.efi, initrd: plain}\ntpm: {bank: sha1}\n", pcr.ReasonBank},
		"no firmware":           {"sev_snp: [{vmm: qemu, vcpus: [1], cpus: [EPYC], guest_features: 1}]\n", ReasonPlatform},
		"no processors":         {"sev_snp: [{firmware: OVMF.fd, vmm: ec2, guest_features: 1}]\n", ReasonPlatform},
		"too many numbers":      {"sev_snp: [{firmware: OVMF.fd, vmm: ec2, guest_features: 1, vcpus: [" + many(maxChoices+1, "1") + "]}]\n", ReasonPlatform},
		"too many models":       {"sev_snp: [{firmware: OVMF.fd, vmm: qemu, guest_features: 1, vcpus: [1], cpus: [" + many(maxChoices+1, "EPYC") + "]}]\n", ReasonPlatform},
		"too many machines":     {"sev_snp: [" + many(maxMachines+1, "{firmware: OVMF.fd, vmm: ec2, vcpus: [1], guest_features: 1}") + "]\n", ReasonPlatform},
		"too many of TDX":       {"tdx: [" + many(maxMachines+1, "{firmware: OVMF.fd, page_order: by-page}") + "]\n", ReasonPlatform},
		"a kernel for nothing":  {snpOf(", kernel: vmlinuz"), ReasonPlatform},
		"a line for nothing":    {snpOf(", cmdline: quiet"), ReasonPlatform},
		"model and signature":   {snpOf(", signature: 0x800f12"), ReasonPlatform},
		"no model":              {"sev_snp: [{firmware: OVMF.fd, vmm: qemu, vcpus: [1], guest_features: 1}]\n", ReasonPlatform},
		"an unknown model":      {"sev_snp: [{firmware: OVMF.fd, vmm: qemu, vcpus: [1], cpus: [i486], guest_features: 1}]\n", snp.ReasonMachine},
		"an unknown hypervisor": {"sev_snp: [{firmware: OVMF.fd, vmm: xen, vcpus: [1], guest_features: 1}]\n", snp.ReasonMachine},
		"no features":           {"sev_snp: [{firmware: OVMF.fd, vmm: ec2, vcpus: [1]}]\n", snp.ReasonMachine},
		"hashes of nothing":     {"sev_snp: [{firmware: OVMF.fd, vmm: ec2, vcpus: [1], guest_features: 1, kernel_hashes: true}]\n", ReasonPlatform},
		"a zero in the line":    {snpOf(`, kernel_hashes: true, cmdline: "a\0b"`), ReasonPlatform},
		"a long line":           {snpOf(", kernel_hashes: true, cmdline: " + strings.Repeat("x", maxCommandLine+1)), ReasonPlatform},
		"no firmware of TDX":    {tdxOf("page_order: by-page"), ReasonPlatform},
		"no order":              {tdxOf("firmware: OVMF.fd"), ReasonPlatform},
		"no TDX firmware":       {tdxOf("firmware: web.efi, page_order: by-page"), firmware.ReasonMalformed},
		"no SNP firmware":       {"sev_snp: [{firmware: web.efi, vmm: ec2, vcpus: [1], guest_features: 1}]\n", firmware.ReasonMalformed},
		"no UKI":                {"image: {uki: OVMF.fd}\nclouds: [gce]\n", uki.ReasonMalformed},
		"no disk":               {"image: {disk: OVMF.fd}\nclouds: [gce]\n", gpt.ReasonTable},
		"an unknown cloud":      {"clouds: [ibm]\n", ReasonPlatform},
		"a cloud twice":         {"clouds: [gce, gce]\n", ReasonPlatform},
	} {
		_, err := compute(t, dir, "format: 1\nname: images/web-7\n"+c.text)
		refusaltest.Want(t, what, err, c.want)
	}
	_, err := compute(t, dir, "format: 2\nname: a\nclouds: [gce]\n")
	refusaltest.Want(t, "format 2", err, ReasonPlatform)
	_, err = compute(t, dir, "format: 1\nclouds: [gce]\n")
	refusaltest.Want(t, "no name", err, ReasonPlatform)
	_, err = compute(t, dir, "format: 1\nname: Images Web\nclouds: [gce]\n")
	refusaltest.Want(t, "a name that nothing can be published under", err, ReasonPlatform)
	_, err = Compute(Platform{}, dir, made)
	refusaltest.Want(t, "the zero value", err, ReasonPlatform)
}

// TestMissingFilesAreNamed with the part of the description that names them.
func TestMissingFilesAreNamed(t *testing.T) {
	dir := folder(t)
	for role, text := range map[string]string{
		"image.uki": "image: {uki: x}\nclouds: [gce]\n", "image.disk": "image: {disk: x}\nclouds: [gce]\n",
		"tpm.event_log":       "image: {uki: web.efi, initrd: plain}\ntpm: {bank: sha256, event_log: x}\n",
		"sev_snp[0].kernel":   "sev_snp: [{firmware: OVMF.fd, vmm: ec2, vcpus: [1], guest_features: 1, kernel_hashes: true, kernel: x}]\n",
		"sev_snp[0].initrd":   "sev_snp: [{firmware: OVMF.fd, vmm: ec2, vcpus: [1], guest_features: 1, kernel_hashes: true, kernel: vmlinuz, initrd: x}]\n",
		"tdx[0].firmware":     "tdx: [{firmware: x, page_order: by-page}]\n",
		"sev_snp[0].firmware": "sev_snp: [{firmware: x, vmm: ec2, vcpus: [1], guest_features: 1}]\n",
	} {
		_, err := compute(t, dir, "format: 1\nname: images/web-7\n"+text)
		if !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), role+": ") {
			t.Errorf("%s: %v", role, err)
		}
	}
	large := files{dir: dir}
	_, err := large.read("a role", "OVMF.fd", 16)
	refusaltest.Want(t, "a file above its limit", err, ReasonFile)
}

// TestAGuestConfirmsItsValues or ends the matter.
func TestAGuestConfirmsItsValues(t *testing.T) {
	dir := folder(t)
	fresh := func() *publication.Statement {
		s, err := compute(t, dir, whole)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := fresh()
	quoted := map[string]string{"pcr0": "00"}
	for name, value := range find(t, s, "vtpm/ready").Registers {
		quoted[name] = strings.ToUpper(value)
	}
	if err := Confirm(s, "vtpm", quoted); err != nil {
		t.Fatal(err)
	}
	if ready, other := find(t, s, "vtpm/ready"), find(t, s, "vtpm/sysinit"); fmt.Sprint(ready.Checked) != "map[pcr11:boot pcr12:boot pcr4:boot pcr7:boot]" || other.Checked["pcr4"] != publication.CheckVectors {
		t.Errorf("%v, %v", ready.Checked, other.Checked)
	}
	for what, change := range map[string]func(map[string]string){
		"another PCR 4": func(q map[string]string) { q["pcr4"] = strings.Repeat("1", 64) },
		"no PCR 4":      func(q map[string]string) { delete(q, "pcr4") },
		"nothing":       func(q map[string]string) { clear(q) },
	} {
		s, other := fresh(), maps.Clone(quoted)
		change(other)
		refusaltest.Want(t, what, Confirm(s, "vtpm", other), ReasonBoot)
		if find(t, s, "vtpm/ready").Checked["pcr4"] != publication.CheckVectors {
			t.Errorf("%s: marked", what)
		}
	}
	refusaltest.Want(t, "no value of the kind", Confirm(fresh(), "azure-tdx", quoted), ReasonBoot)
}

func FuzzPlatform(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("format: 1\nname: a\nclouds: [gce]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ParsePlatform(text)
		if err == nil && (p.Name == "" || len(p.SNP) > maxMachines) {
			t.Errorf("%+v", p)
		}
	})
}

// TestTheDocumentsExampleIsADescription that this version reads.
func TestTheDocumentsExampleIsADescription(t *testing.T) {
	page, err := os.ReadFile("../../docs/measure.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(page), "```yaml\n")
	text, _, _ := strings.Cut(after, "```")
	p, err := ParsePlatform([]byte(text))
	if !found || err != nil || len(p.SNP) != 1 || len(p.TDX) != 1 || len(p.Clouds) != 3 || p.TPM.EventLog == "" {
		t.Errorf("%+v, %v", p, err)
	}
}
