package eventlog

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
	"github.com/anchorhold/anchorhold/packaging/oracletest"
)

// asked is a log as a question to go-eventlog.
func asked(l realLog, values Registers, bank Bank) oracletest.EventLogRequest {
	return oracletest.EventLogRequest{Log: l.data, CCEL: l.format == CCEL, SHA256: bank == SHA256, Registers: values}
}

// TestGoEventlogAgreesOnReplay: the other implementation accepts the values that we find, and no
// other, for every log of its own.
func TestGoEventlogAgreesOnReplay(t *testing.T) {
	o := oracletest.Start(t)
	for _, l := range moduleLogs(t) {
		for _, bank := range []Bank{SHA256, SHA384} {
			values, err := Replay(l.data, l.format, bank)
			if reason, _ := refusal.ReasonOf(err); reason == ReasonBank {
				continue
			} else if err != nil {
				t.Errorf("%s: %v", l.name, err)
				continue
			}
			if a := o.EventLog(t, asked(l, values, bank)); a.Replay != "" {
				t.Errorf("%s, %s: %s", l.name, bank, a.Replay)
			}
			for n := range values {
				values[n][5] ^= 1
				if o.EventLog(t, asked(l, values, bank)).Replay == "" {
					t.Errorf("%s, %s: register %d does not count", l.name, bank, n)
				}
				values[n][5] ^= 1
			}
		}
	}
}

// The logs that we refuse, and why.
func refusedLogs() map[string]refusal.Reason {
	return map[string]refusal.Reason{
		"eventlogs/tpm/host-gmes.bin": ReasonType, // a type of Google's own hosts in PCR 17
	}
}

// unread are the logs of which go-eventlog reads no state of Secure Boot, or no programs, and part
// of what it says; we read them.
func unread() (states, programs map[string]string) {
	// RTMR0 and RTMR1 take the events of several PCRs, with a separator for each: all of them
	// stand behind the variables, so a second one hides nothing. Firmware measures more types
	// there. A variable of no content does not exist, which is off.
	states = map[string]string{
		"eventlogs/ccel/CCEL_unpadded.data.bin":                        "duplicate separator",
		"eventlogs/ccel/cos-113-intel-tdx-dupe-separator-unpadded.bin": "duplicate separator",
		"eventlogs/ccel/cos-113-intel-tdx-dupe-separator.bin":          "duplicate separator",
		"eventlogs/ccel/event_log.bin":                                 "unexpected event type in MR1",
		"eventlogs/ccel/gdc-tdx.bin":                                   "data len is 0",
		"eventlogs/tpm/arch-linux-workstation.bin":                     "data len is 0",
		"legacydata/crypto_agile_eventlog":                             "data len is 0",
		"eventlogs/tpm/glinux-alex.bin":                                "negative serial number", // of a certificate that we do not read
	}
	return states, map[string]string{"eventlogs/ccel/event_log.bin": "duplicate Separator"}
}

// claimsOf verifies a real log against the registers that it leads to.
func claimsOf(t *testing.T, l realLog) (evidence.EventLogClaims, Registers, Bank, bool) {
	t.Helper()
	values, bank := replayed(t, l)
	c, err := Verify(l.data, l.format, values)
	got, _ := refusal.ReasonOf(err)
	if want := refusedLogs()[l.name]; got != want || (err != nil) != (want != "") {
		t.Errorf("%s: %v, want %q", l.name, err, want)
	}
	return c, values, bank, err == nil
}

// TestGoEventlogAgreesOnClaims: where the other implementation reads Secure Boot and the programs
// out of a log, it reads the same.
func TestGoEventlogAgreesOnClaims(t *testing.T) {
	o := oracletest.Start(t)
	compared, programs := 0, 0
	states, unreadPrograms := unread()
	for _, l := range moduleLogs(t) {
		c, values, bank, ok := claimsOf(t, l)
		if !ok {
			continue
		}
		a := o.EventLog(t, asked(l, values, bank))
		switch {
		case a.Replay != "":
			t.Fatal(a.Replay)
		case a.SecureBootErr != "":
			if want := states[l.name]; want == "" || !strings.Contains(a.SecureBootErr, want) {
				t.Errorf("%s: go-eventlog finds no state of Secure Boot: %s", l.name, a.SecureBootErr)
			}
		case c.SecureBoot == nil || *c.SecureBoot != a.SecureBoot:
			t.Errorf("%s: Secure Boot: %s, go-eventlog: %t", l.name, show(c), a.SecureBoot)
		default:
			compared++
		}
		if a.AppsErr != "" {
			if want := unreadPrograms[l.name]; want == "" || !strings.Contains(a.AppsErr, want) {
				t.Errorf("%s: go-eventlog finds no programs: %s", l.name, a.AppsErr)
			}
		} else if len(a.Apps) > 0 {
			samePrograms(t, l, c, a.Apps)
			programs++
		}
	}
	if compared < 15 || programs < 15 {
		t.Errorf("compared %d states and %d lists", compared, programs)
	}
}

// TestRealLogsAreReadOrRefused: every log that go-eventlog carries.
func TestRealLogsAreReadOrRefused(t *testing.T) {
	read := 0
	for _, l := range moduleLogs(t) {
		if c, _, _, ok := claimsOf(t, l); ok && len(c.Registers) > 0 && c.Events > 0 {
			read++
		}
	}
	if read < 19 {
		t.Errorf("%d logs were read", read)
	}
}

func samePrograms(t *testing.T, l realLog, c evidence.EventLogClaims, apps [][]byte) {
	t.Helper()
	at := "pcr4"
	if l.format == CCEL {
		at = "rtmr1"
	}
	var ours []evidence.Hex
	for _, b := range c.Boot {
		if b.Register == at && b.Type == evApplication.name() {
			ours = append(ours, b.Digest)
		}
	}
	if !slices.EqualFunc(ours, apps, func(a evidence.Hex, b []byte) bool { return bytes.Equal(a, b) }) {
		t.Errorf("%s: we have %d programs, go-eventlog %d", l.name, len(ours), len(apps))
	}
}

func TestRealLogsOfGuests(t *testing.T) {
	for _, l := range sharedLogs(t) {
		c, _, _, ok := claimsOf(t, l)
		if ok && (len(c.Boot) == 0 || c.SecureBoot == nil) {
			t.Errorf("%s: %s", l.name, show(c))
		}
	}
}

// TestLogOfARealTDXGuestLeadsToItsQuote: the quote's RTMRs stand at 328 in the report of 1.0, which
// follows 48 bytes (TDX DCAP Quoting Library API, A.3.2).
func TestLogOfARealTDXGuestLeadsToItsQuote(t *testing.T) {
	dir := evidencetest.Dir(t)
	quote := readFile(t, dir, "tdx", "03-v4-gcp-cos113", "quote.bin")
	log := readFile(t, dir, "tdx", "03-v4-gcp-cos113", "ccel.bin")
	want := Registers{}
	for n := range 4 {
		want[n] = bytes.Clone(quote[48+328+48*n:][:48])
	}
	c, err := Verify(log, CCEL, want)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(c.Registers, " "); got != "rtmr0 rtmr1 rtmr2 rtmr3" || c.Events != 43 || c.SecureBoot == nil || *c.SecureBoot {
		t.Errorf("%s", show(c))
	}
	found := false
	for _, b := range c.Boot {
		found = found || strings.HasPrefix(b.Text, "/syslinux/vmlinuz.A init=/usr/lib/systemd/systemd ")
	}
	if !found {
		t.Errorf("no command line in %s", show(c))
	}
	for n := range want {
		want[n][7] ^= 1
		_, err := Verify(log, CCEL, want)
		wantReason(t, err, ReasonRegister)
		want[n][7] ^= 1
	}
}

// Every byte of a real log that is flipped changes a register, or stands where the log says
// nothing of verified registers: in labels, types, and digests of other banks.
func TestNoChangeOfARealLogChangesWhatIsProven(t *testing.T) {
	for _, l := range moduleLogs(t) {
		if l.name != "eventlogs/tpm/cos-101-amd-sev.bin" && l.name != "eventlogs/ccel/event_log.bin" {
			continue
		}
		c, values, _, ok := claimsOf(t, l)
		if !ok {
			continue
		}
		changed := bytes.Clone(l.data)
		for at := 0; at < min(len(changed), 16<<10); at += 5 {
			changed[at] ^= 0x41
			got, err := Verify(changed, l.format, values)
			if err == nil && (!same(got.SecureBoot, c.SecureBoot) && got.SecureBoot != nil || len(got.Boot) < len(c.Boot)) {
				t.Errorf("%s: changed at %d: %s", l.name, at, show(got))
			}
			changed[at] ^= 0x41
		}
	}
}

func same(a, b *bool) bool { return a == nil && b == nil || a != nil && b != nil && *a == *b }

// Logs of TPM 1.2, without a header and with SHA-1 alone, prove nothing.
func TestLogsOfTheOldFormatAreRefused(t *testing.T) {
	dir := moduleDir(t)
	for _, name := range []string{"eventlogs/tpm/debian-10.bin", "legacydata/ebs_event_missing_eventlog", "legacydata/option_rom_eventlog", "legacydata/short_no_action_eventlog"} {
		data := readFile(t, dir, name)
		if binary.LittleEndian.Uint32(data) != 0 {
			t.Errorf("%s is something else", name)
		}
		_, err := Replay(data, TCG, SHA256)
		wantReason(t, err, ReasonMalformed)
	}
}
