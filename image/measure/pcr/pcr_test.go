package pcr

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
	"github.com/anchorhold/anchorhold/image/gpt"
	"github.com/anchorhold/anchorhold/image/gpt/gpttest"
	"github.com/anchorhold/anchorhold/image/measure/uki"
	"github.com/anchorhold/anchorhold/image/measure/uki/ukitest"
)

func open(tb testing.TB, stub int, sections ...ukitest.Section) *uki.Image {
	tb.Helper()
	u, err := uki.Open(ukitest.Image(stub, sections...))
	if err != nil {
		tb.Fatal(err)
	}
	return u
}

func TestBanksByName(t *testing.T) {
	for _, b := range []Bank{"", "sha1", "SHA256", "sha512"} {
		refusaltest.Want(t, string(b), b.Check(), ReasonBank)
	}
	for b, size := range map[Bank]int{SHA256: 32, SHA384: 48} {
		if b.Check() != nil || len(b.Zero()) != size || len(b.Sum(nil)) != size || !bytes.Equal(b.Replay(nil), b.Zero()) {
			t.Errorf("%s is not of %d bytes", b, size)
		}
	}
}

// TestPCR4ByHand: what firmware extends, hashed here once more.
func TestPCR4ByHand(t *testing.T) {
	u := open(t, 257, ukitest.Usual("quiet")...)
	events, err := PCR4(SHA256, u)
	if err != nil || len(events) != 4 {
		t.Fatal(events, err)
	}
	value := make([]byte, 32)
	extend := func(d []byte) { s := sha256.Sum256(append(value, d...)); value = s[:] }
	action, zero := sha256.Sum256([]byte("Calling EFI Application from Boot Option")), sha256.Sum256(make([]byte, 4))
	extend(action[:])
	extend(zero[:])
	extend(u.Authenticode(sha256.New()))
	extend(u.Kernel.Authenticode(sha256.New()))
	if got := SHA256.Replay(events); !bytes.Equal(got, value) {
		t.Errorf("got %x, want %x", got, value)
	}
	_, err = PCR4(SHA256, open(t, 258, ukitest.Usual("quiet")...))
	refusaltest.Want(t, "a stub that may start the kernel by itself", err, ReasonUnknownBoot)
	_, err = RTMR1(open(t, 258, ukitest.Usual("quiet")...), nil)
	refusaltest.Want(t, "the same, RTMR1", err, ReasonUnknownBoot)
}

// TestPCR11BesideSystemdMeasure: the value of each phase, for images with several sets of sections.
func TestPCR11BesideSystemdMeasure(t *testing.T) {
	const tool = "/usr/lib/systemd/systemd-measure"
	if _, err := os.Stat(tool); err != nil {
		t.Skip("NOT COMPARED with systemd-measure, which is not installed:", err)
	}
	dir := t.TempDir()
	for _, omit := range []string{"", ".cmdline", ".osrel .initrd", ".splash .dtb .pcrpkey"} {
		var sections []ukitest.Section
		var args []string
		all := append(ukitest.Usual("root=/dev/x \n"), ukitest.Section{Name: ".splash", Data: []byte("BM")}, ukitest.Section{Name: ".dtb", Data: []byte{1}}, ukitest.Section{Name: ".pcrpkey", Data: []byte("key\n")})
		for _, s := range all {
			if strings.Contains(omit, s.Name) {
				continue
			}
			path := filepath.Join(dir, s.Name)
			if err := os.WriteFile(path, s.Data, 0o600); err != nil {
				t.Fatal(err)
			}
			sections, args = append(sections, s), append(args, "--"+s.Name[1:]+"="+path)
		}
		u := open(t, 252, sections...)
		for _, inInitrd := range []bool{false, true} {
			phases := Phases(inInitrd)
			for n := range len(phases) + 1 {
				var words []string
				for _, p := range phases[:n] {
					words = append(words, string(p))
				}
				for _, bank := range []Bank{SHA256, SHA384} {
					got := hex.EncodeToString(bank.Replay(PCR11(bank, u, phases[:n])))
					if want := systemdMeasure(t, tool, bank, strings.Join(words, ":"), args); got != want {
						t.Errorf("without %q, %s after %v: got %s, want %s", omit, bank, words, got, want)
					}
				}
			}
		}
	}
}

func systemdMeasure(t *testing.T, tool string, bank Bank, phase string, args []string) string {
	t.Helper()
	out, err := exec.Command(tool, append([]string{"calculate", "--json=short", "--bank=" + string(bank), "--phase=" + phase}, args...)...).Output()
	var answer map[string][]struct{ Hash string }
	if err == nil {
		err = json.Unmarshal(out, &answer)
	}
	if err != nil || len(answer[string(bank)]) != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	return answer[string(bank)][0].Hash
}

func TestEachPhaseHasItsValue(t *testing.T) {
	u, seen := open(t, 257, ukitest.Usual("quiet")...), map[string]bool{}
	for _, inInitrd := range []bool{false, true} {
		phases := Phases(inInitrd)
		for n := range phases {
			seen[string(SHA256.Replay(PCR11(SHA256, u, phases[:n+1])))] = true
		}
	}
	if len(seen) != 6 {
		t.Errorf("%d different values, want 6", len(seen))
	}
}

// TestRTMR1OfARealGuest: the events that are computed, with the partition table and the programs that a guest of
// Google's logged, lead to the RTMR1 of its quote. That guest starts shim and GRUB in the image's place.
func TestRTMR1OfARealGuest(t *testing.T) {
	log, quote := evidencetest.Read(t, "tdx", "03-v4-gcp-cos113", "ccel.bin"), evidencetest.Read(t, "tdx", "03-v4-gcp-cos113", "quote.bin")
	logged := rtmr1Events(t, log)
	var table []byte
	var started []Event
	for _, e := range logged {
		switch e.kind {
		case 0x80000006:
			table = e.data
		case 0x80000003:
			started = append(started, Event{"a program", e.digest})
		}
	}
	// Not by RTMR1: the programs are others'. What frames them is the same.
	u := open(t, 257, ukitest.Usual("quiet")...)
	events, err := RTMR1(u, table)
	if err != nil || len(started) != 2 {
		t.Fatal(len(started), err)
	}
	copy(events[3:5], started)
	want := quote[48+376 : 48+376+48]
	if got := SHA384.Replay(events); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

// event is one of a real log's register 2, which is RTMR1.
type event struct {
	kind         uint32
	digest, data []byte
}

// rtmr1Events reads a log whose events have one digest of SHA-384.
func rtmr1Events(t *testing.T, log []byte) (events []event) {
	t.Helper()
	at := 32 + int(binary.LittleEndian.Uint32(log[28:]))
	for at+70 < len(log) {
		register, kind := binary.LittleEndian.Uint32(log[at:]), binary.LittleEndian.Uint32(log[at+4:])
		if register > 4 {
			break
		}
		size := int(binary.LittleEndian.Uint32(log[at+62:]))
		if register == 2 {
			events = append(events, event{kind, log[at+14 : at+62], log[at+66 : at+66+size]})
		}
		at += 66 + size
	}
	return events
}

func TestPartitionTablesAsFirmwareMeasuresThem(t *testing.T) {
	raw := gpttest.Disk(gpttest.Partition{Type: [16]byte{1}}, gpttest.Partition{Type: [16]byte{2}})
	got, err := PartitionTable(bytes.NewReader(raw))
	want := append(bytes.Clone(raw[gpttest.Header:gpttest.Header+92]), 2, 0, 0, 0, 0, 0, 0, 0)
	for _, slot := range []int{0, 2} {
		at := gpttest.Entries + slot*gpttest.EntryBytes
		want = append(want, raw[at:at+gpttest.EntryBytes]...)
	}
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %x, %v", got, err)
	}
	_, err = PartitionTable(bytes.NewReader(nil))
	refusaltest.Want(t, "no disk", err, gpt.ReasonTable)
}
