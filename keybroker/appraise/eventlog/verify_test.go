package eventlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// judged verifies a made log against the registers that it leads to: what an attacker achieves
// who can extend what he likes, and log it as he likes.
func judged(t *testing.T, format Format, entries ...entry) (evidence.EventLogClaims, error) {
	t.Helper()
	log := build(format, entries...)
	want, err := Replay(log, format, SHA384)
	if err != nil {
		t.Fatal(err)
	}
	return Verify(log, format, want)
}

func TestBootOfATPMIsClaimed(t *testing.T) {
	c, err := judged(t, TCG, tpmBoot()...)
	if err != nil {
		t.Fatal(err)
	}
	if c.SecureBoot == nil || !*c.SecureBoot || c.Events != len(tpmBoot()) || c.Format != "tcg" {
		t.Errorf("%s", show(c))
	}
	if got := strings.Join(c.Registers, " "); got != "pcr0 pcr1 pcr2 pcr3 pcr4 pcr5 pcr6 pcr7 pcr8 pcr9" {
		t.Error(got)
	}
	var got []string
	for _, b := range c.Boot {
		got = append(got, fmt.Sprintf("%s %s %q", b.Register, b.Type, b.Text))
	}
	want := []string{
		`pcr4 EV_EFI_BOOT_SERVICES_APPLICATION ""`, `pcr4 EV_EFI_BOOT_SERVICES_APPLICATION ""`,
		`pcr8 EV_IPL "linux /vmlinuz root=/dev/vda1"`, `pcr9 EV_IPL ""`, `pcr8 EV_IPL "/vmlinuz root=/dev/vda1"`, `pcr9 EV_EVENT_TAG ""`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	sum, _ := hash(algSHA384, []byte("kernel"))
	if !bytes.Equal(c.Boot[3].Digest, sum[:]) {
		t.Errorf("the kernel's digest is %x", []byte(c.Boot[3].Digest))
	}
}

func TestBootOfAConfidentialGuestIsClaimed(t *testing.T) {
	c, err := judged(t, CCEL, ccBoot()...)
	if err != nil || c.SecureBoot == nil || *c.SecureBoot || len(c.Boot) != 3 || strings.Join(c.Registers, " ") != "rtmr0 rtmr1 rtmr2" {
		t.Errorf("%s, %v", show(c), err)
	}
}

// Each log differs from an accepted one in one event, and its registers match: only the rule
// that it breaks refuses it.
func TestPitfall28ForgedLogsAreRefused(t *testing.T) {
	boot, cc := tpmBoot(), ccBoot()
	last, ccLast := len(boot), len(cc)
	for name, c := range map[string]struct {
		format  Format
		entries []entry
		reason  refusal.Reason
	}{
		"variable appended behind the separator":  {TCG, inserted(boot[:2:2], 2, append([]entry{separator(7), secureBoot(7, "\x01")}, boot[5:]...)...), ReasonSeparator},
		"variable appended in RTMR0":              {CCEL, inserted(slices.Delete(slices.Clone(cc), 2, 3), 5, secureBoot(1, "\x01")), ReasonSeparator},
		"second Secure Boot variable":             {TCG, inserted(boot, 3, secureBoot(7, "\x00")), ReasonSecureBoot},
		"Secure Boot without a separator":         {TCG, slices.Delete(slices.Clone(boot), 4, 5), ReasonSecureBoot},
		"Secure Boot of two bytes":                {TCG, append([]entry{secureBoot(7, "\x01\x01")}, separator(7)), ReasonSecureBoot},
		"Secure Boot of 2":                        {TCG, append([]entry{secureBoot(7, "\x02")}, separator(7)), ReasonSecureBoot},
		"variable's data is not what was hashed":  {TCG, []entry{{index: 7, typ: evVariableDriverConfig, data: secureBoot(7, "\x01").data, digest: secureBoot(7, "\x00").data}, separator(7)}, ReasonDigest},
		"variable's sizes overlap":                {TCG, []entry{{index: 7, typ: evVariableDriverConfig, data: strings.Replace(secureBoot(7, "\x01").data, "\x01\x00\x00\x00\x00\x00\x00\x00S", "\xff\xff\xff\xff\xff\xff\xff\xffS", 1)}}, ReasonMalformed},
		"variable with more behind it":            {TCG, []entry{{index: 7, typ: evVariableDriverConfig, data: secureBoot(7, "").data + "x"}}, ReasonMalformed},
		"variable with a name past the end":       {TCG, []entry{{index: 7, typ: evVariableDriverConfig, data: globalVariable + "\x20\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00" + "S\x00"}}, ReasonMalformed},
		"variable cut short":                      {TCG, []entry{{index: 7, typ: evVariableDriverConfig, data: globalVariable}}, ReasonMalformed},
		"second separator":                        {TCG, inserted(boot, last, separator(7)), ReasonSeparator},
		"fourth separator in RTMR0":               {CCEL, inserted(cc, ccLast, separator(1), separator(1)), ReasonSeparator},
		"separator that reports an error":         {TCG, []entry{{index: 2, typ: evSeparator, data: "\x01\x00\x00\x00"}}, ReasonSeparator},
		"separator of other data":                 {TCG, []entry{{index: 2, typ: evSeparator, data: "\x00\x00\x00\x00\x00"}}, ReasonSeparator},
		"separator's data is not what was hashed": {TCG, []entry{{index: 2, typ: evSeparator, data: separatorData, digest: "other"}}, ReasonDigest},
		"separator under another type":            {TCG, []entry{{index: 1, typ: evPlatformConfigFlags, data: "x", digest: separatorData}}, ReasonSeparator},
		"separator under another type, all ones":  {CCEL, []entry{{index: 2, typ: evPlatformConfigFlags, data: "x", digest: "\xff\xff\xff\xff"}}, ReasonSeparator},
		"variable under another type":             {TCG, []entry{{index: 7, typ: evPostCode, data: "x", digest: secureBoot(7, "\x00").data}}, ReasonType},
		"driver behind the separator":             {TCG, inserted(boot, last, entry{index: 2, typ: evBootDriver, data: "x"}), ReasonSeparator},
		"firmware behind the separator":           {TCG, inserted(boot, last, entry{index: 0, typ: evFirmwareBlob2, data: "x"}), ReasonSeparator},
		"action behind the separator of PCR 3":    {TCG, inserted(boot, last, entry{index: 3, typ: evEFIAction, data: "x"}), ReasonSeparator},
		"event behind the farewell":               {TCG, inserted(boot, last, entry{index: 5, typ: evEFIAction, data: "x"}), ReasonSeparator},
		"program behind the farewell":             {CCEL, inserted(cc, ccLast, app(2, "late")), ReasonSeparator},
		"unknown type":                            {TCG, []entry{{index: 4, typ: 0x10000000, data: "x"}}, ReasonType},
		"unused type":                             {TCG, []entry{{index: 4, typ: 2, data: "x"}}, ReasonType},
		"action that was not hashed":              {TCG, []entry{{index: 4, typ: evEFIAction, data: "x", digest: "y"}}, ReasonDigest},
		"partition table that was not hashed":     {TCG, []entry{{index: 5, typ: evGPT, data: "x", digest: "y"}}, ReasonDigest},
		"too many programs":                       {TCG, slices.Repeat([]entry{app(4, "x")}, evidence.MaxBootEvents+1), ReasonLimit},
	} {
		_, err := judged(t, c.format, c.entries...)
		if got, _ := refusal.ReasonOf(err); got != c.reason {
			t.Errorf("%s: got %v, want %q", name, err, c.reason)
		}
	}
}

// The same events are no lie where they are normal.
func TestWhatFirmwareDoesIsAccepted(t *testing.T) {
	boot := tpmBoot()
	for name, entries := range map[string][]entry{
		"authority logged with a byte more":  inserted(boot, len(boot)-2, entry{index: 7, typ: evVariableAuthority, data: "xy", digest: "x"}),
		"boot variables late":                inserted(boot, len(boot), entry{index: 1, typ: evVariableBoot, data: "x"}),
		"hand-off late":                      inserted(boot, len(boot), entry{index: 1, typ: evHandoffTables, data: "x", digest: "y"}),
		"table and program in PCR 2":         inserted(boot, len(boot), entry{index: 2, typ: evGPT, data: "x"}, app(2, "x")),
		"contents like a separator in PCR 0": {{index: 0, typ: evSCRTMContents, data: "x", digest: separatorData}, separator(0)},
		"other vendor's variable":            {{index: 7, typ: evVariableDriverConfig, data: variableData(strings.Repeat("x", 16), "SecureBoot", "xxx")}, separator(7)},
		"many programs":                      slices.Repeat([]entry{app(4, "x")}, evidence.MaxBootEvents),
		"separators of systems":              {separator(12), separator(12), {index: 12, typ: evIPL, data: "x", digest: "y"}},
	} {
		if _, err := judged(t, TCG, entries...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSecureBootIsOffWhereTheVariableIsEmpty(t *testing.T) {
	c, err := judged(t, TCG, secureBoot(7, ""), separator(7))
	if err != nil || c.SecureBoot == nil || *c.SecureBoot {
		t.Errorf("%s, %v", show(c), err)
	}
	// In another register it is not the firmware's.
	if c, err = judged(t, TCG, secureBoot(8, "\x01"), separator(8)); err != nil || c.SecureBoot != nil {
		t.Errorf("%s, %v", show(c), err)
	}
}

// Types and labels are not measured. Whoever changes them hides no program, kernel or command.
func TestRelabelledEventsAreStillClaimed(t *testing.T) {
	for name, e := range map[string]entry{
		"program called a driver":   {index: 4, typ: evBootDriver, data: "x", digest: "program"},
		"program called a POST":     {index: 4, typ: evPostCode, data: "x", digest: "program"},
		"kernel called a POST":      {index: 9, typ: evPostCode, data: "x", digest: "kernel"},
		"command without its label": {index: 8, typ: evIPL, data: "grub_xxx: set\x00", digest: "linux /evil"},
		"command under another":     {index: 8, typ: evIPL, data: "grub_cmd: set\x00", digest: "linux /evil"},
		"command, bare":             {index: 8, typ: evIPL, data: "linux /evil\x00", digest: "linux /evil"},
		"command with its zero":     {index: 8, typ: evIPL, data: "grub_cmd linux /evil\x00", digest: "linux /evil\x00"},
	} {
		c, err := judged(t, TCG, e)
		if err != nil || len(c.Boot) != 1 {
			t.Errorf("%s: %s, %v", name, show(c), err)
		} else if text := c.Boot[0].Text; text != "" && text != "linux /evil" {
			t.Errorf("%s: believes the label: %q", name, text)
		}
	}
	if c, err := judged(t, TCG, entry{index: 8, typ: evIPL, data: "linux /a\x07"}); err != nil || len(c.Boot) != 1 || c.Boot[0].Text != "" {
		t.Errorf("text that is not printable: %s, %v", show(c), err)
	}
	long := "linux " + strings.Repeat("a", 2*maxText)
	if c, err := judged(t, TCG, entry{index: 8, typ: evIPL, data: long}); err != nil || c.Boot[0].Text != long[:maxText] {
		t.Errorf("long text: %s, %v", show(c), err)
	}
}

func TestRegistersAreComparedBeforeEventsAreJudged(t *testing.T) {
	log := build(TCG, entry{index: 4, typ: 0x10000000, data: "no known type"})
	want, err := Replay(log, TCG, SHA256)
	if err != nil {
		t.Fatal(err)
	}
	want[4][31] ^= 1
	_, err = Verify(log, TCG, want)
	wantReason(t, err, ReasonRegister)
}

func TestEveryVerifiedRegisterCounts(t *testing.T) {
	for format, entries := range map[Format][]entry{TCG: tpmBoot(), CCEL: ccBoot()} {
		log := build(format, entries...)
		whole, err := Replay(log, format, SHA384)
		if err != nil {
			t.Fatal(err)
		}
		for n := range whole {
			want, _ := Replay(log, format, SHA384) // as above
			want[n][0] ^= 1
			_, err := Verify(log, format, want)
			wantReason(t, err, ReasonRegister)
			delete(want, n)
			if c, err := Verify(log, format, want); err != nil || slices.Contains(c.Registers, format.name(n)) {
				t.Errorf("without %s: %s, %v", format.name(n), show(c), err)
			}
		}
		// A register without events has the value that it starts with.
		whole[3] = make(evidence.Hex, maxDigest)
		if format == CCEL {
			if _, err := Verify(log, format, whole); err != nil {
				t.Error(err)
			}
			whole[3][47] = 1
			_, err = Verify(log, format, whole)
			wantReason(t, err, ReasonRegister)
		}
	}
}

// Nothing is claimed of registers that were not verified, even if the log is honest about them.
func TestUnverifiedRegistersProveNothing(t *testing.T) {
	log := build(TCG, tpmBoot()...)
	all, err := Replay(log, TCG, SHA384)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Verify(log, TCG, Registers{0: all[0]})
	if err != nil || c.SecureBoot != nil || len(c.Boot) != 0 || !slices.Equal(c.Registers, []string{"pcr0"}) {
		t.Errorf("%s, %v", show(c), err)
	}
}

func TestVerifiedValuesAreRequired(t *testing.T) {
	log, cc := build(TCG, tpmBoot()...), build(CCEL, ccBoot()...)
	for name, c := range map[string]struct {
		log    []byte
		format Format
		want   Registers
	}{
		"none":            {log, TCG, nil},
		"empty":           {log, TCG, Registers{}},
		"no value":        {log, TCG, Registers{0: nil}},
		"SHA-1":           {log, TCG, Registers{0: make(evidence.Hex, 20)}},
		"two banks":       {log, TCG, Registers{0: make(evidence.Hex, 32), 1: make(evidence.Hex, 48)}},
		"no such PCR":     {log, TCG, Registers{24: make(evidence.Hex, 32)}},
		"negative":        {log, TCG, Registers{-1: make(evidence.Hex, 32)}},
		"no such RTMR":    {cc, CCEL, Registers{4: make(evidence.Hex, 48)}},
		"RTMR of SHA-256": {cc, CCEL, Registers{0: make(evidence.Hex, 32)}},
	} {
		_, err := Verify(c.log, c.format, c.want)
		if got, _ := refusal.ReasonOf(err); got != ReasonUnverified {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := Verify(log, "", Registers{0: make(evidence.Hex, 32)})
	wantReason(t, err, ReasonUnverified)
	_, err = Verify(cc, TCG, Registers{0: make(evidence.Hex, 32)})
	wantReason(t, err, ReasonBank)
	_, err = Replay(log, TCG, "sha1")
	wantReason(t, err, ReasonBank)
}

func TestStartupLocalityIsTheFirstValueOfPCR0(t *testing.T) {
	locality := func(index uint32, at string) entry {
		return entry{index: index, typ: evNoAction, data: localitySignature + at}
	}
	crtm := entry{index: 0, typ: evSCRTMVersion, data: "v"}
	with, err := Replay(build(TCG, locality(0, "\x03"), crtm), TCG, SHA256)
	if err != nil {
		t.Fatal(err)
	}
	version, _ := hash(algSHA256, []byte("v"))
	first := make([]byte, 32)
	first[31] = 3
	want, _ := hash(algSHA256, append(first, version[:32]...))
	if !bytes.Equal(with[0], want[:32]) {
		t.Errorf("PCR 0 is %x, want %x", []byte(with[0]), want[:32])
	}
	for name, entries := range map[string][]entry{
		"late": {crtm, locality(0, "\x03")}, "twice": {locality(0, "\x03"), locality(0, "\x03")}, "of another register": {locality(1, "\x03")},
		"none": {locality(0, "")}, "long": {locality(0, "\x03\x03")}, "unheard of": {locality(0, "\x01")},
	} {
		_, err := Replay(build(TCG, entries...), TCG, SHA256)
		if got, _ := refusal.ReasonOf(err); got != ReasonMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDynamicRegistersStartAsOnes(t *testing.T) {
	log := build(TCG, entry{index: 17, typ: evIPL, data: "x"})
	want, err := Replay(log, TCG, SHA256)
	if err != nil {
		t.Fatal(err)
	}
	want[18] = bytes.Repeat([]byte{0xff}, 32)
	if _, err := Verify(log, TCG, want); err != nil {
		t.Error(err)
	}
	want[18] = make([]byte, 32)
	_, err = Verify(log, TCG, want)
	wantReason(t, err, ReasonRegister)
}

func TestDigestCoversTheLogAndNotItsPadding(t *testing.T) {
	log := build(CCEL, ccBoot()...)
	want, err := Replay(log, CCEL, SHA384)
	if err != nil {
		t.Fatal(err)
	}
	bare, err := Verify(log, CCEL, want)
	if err != nil {
		t.Fatal(err)
	}
	sum, _ := hash(algSHA256, log)
	if !bytes.Equal(bare.Digest, sum[:32]) {
		t.Errorf("%x", []byte(bare.Digest))
	}
	for _, pad := range []string{"\x00", "\xff"} {
		for _, n := range []int{1, 7, 8, 9, 4096} {
			padded, err := Verify(append(slices.Clone(log), strings.Repeat(pad, n)...), CCEL, want)
			if err != nil || show(padded) != show(bare) {
				t.Errorf("%d of %q: %v", n, pad, err)
			}
			_, err = Verify(append(append(slices.Clone(log), strings.Repeat(pad, n)...), 1), CCEL, want)
			wantReason(t, err, ReasonMalformed)
		}
	}
}

// shortHeader is a header of the signature and some bytes.
func shortHeader(n int) []byte {
	spec := append([]byte(specSignature), make([]byte, n)...)
	b := binary.LittleEndian.AppendUint32(make([]byte, 4), uint32(evNoAction))
	b = binary.LittleEndian.AppendUint32(append(b, make([]byte, legacyDigestBytes)...), uint32(len(spec)))
	return append(b, spec...)
}

func TestMalformedLogsAreRefused(t *testing.T) {
	good := build(TCG, tpmBoot()...)
	head := len(header(0, algSHA256, algSHA384))
	at := func(offset int, value uint32) []byte {
		return binary.LittleEndian.AppendUint32(slices.Clone(good[:offset]), value)
	}
	with := func(offset int, value uint32) []byte { return append(at(offset, value), good[offset+4:]...) }
	spec := head - 2*4 - 1 - 12 // behind the signature
	for name, c := range map[string]struct {
		log    []byte
		reason refusal.Reason
	}{
		"empty":                        {nil, ReasonMalformed},
		"too large":                    {make([]byte, MaxBytes+1), ReasonLimit},
		"other first event":            {with(4, 8), ReasonMalformed},
		"first event for PCR 2":        {with(0, 2), ReasonMalformed},
		"first event with a digest":    {with(8, 1), ReasonMalformed},
		"other version":                {with(spec+4, 0x02000300), ReasonMalformed},
		"no algorithms":                {with(spec+8, 0), ReasonMalformed},
		"many algorithms":              {with(spec+8, maxAlgorithms+1), ReasonMalformed},
		"unknown algorithm":            {with(spec+12, 0x00200099), ReasonMalformed},
		"algorithm of another size":    {with(spec+12, 0x0021000b), ReasonMalformed},
		"algorithm twice":              {with(spec+16, 0x0020000b), ReasonMalformed},
		"header larger than its parts": {with(28, uint32(head-32-1)), ReasonMalformed},
		"header past the end":          {with(28, 1<<30), ReasonMalformed},
		"no such register":             {with(head, 24), ReasonMalformed},
		"one digest too few":           {with(head+8, 1), ReasonMalformed},
		"digest of another algorithm":  {with(head+12, 0x0004), ReasonMalformed},
		"event past the limit":         {with(head+12+2+32+2+48, MaxEventBytes+1), ReasonLimit},
		"event past the end":           {with(head+12+2+32+2+48, MaxEventBytes), ReasonMalformed},
		"no action with a digest":      {with(head+4, uint32(evNoAction)), ReasonMalformed},
		"header without its parts":     {shortHeader(0), ReasonMalformed},
		"header with half its parts":   {shortHeader(11), ReasonMalformed},
		"vendor's part missing":        {append(slices.Clone(good[:head-1]), 1), ReasonMalformed},
		"too many events":              {build(TCG, slices.Repeat([]entry{{index: 1, typ: evIPL}}, MaxEvents+1)...), ReasonLimit},
	} {
		_, err := Replay(c.log, TCG, SHA256)
		if got, _ := refusal.ReasonOf(err); got != c.reason {
			t.Errorf("%s: got %v, want %q", name, err, c.reason)
		}
	}
	for cut := len(build(TCG, tpmBoot()[:len(tpmBoot())-1]...)) + 1; cut < len(good); cut++ {
		_, err := Replay(good[:cut], TCG, SHA256)
		wantReason(t, err, ReasonMalformed)
	}
	_, err := Replay(good[:head], "tcg2", SHA256)
	wantReason(t, err, ReasonMalformed)
	_, err = Replay(build(CCEL, entry{index: 0, typ: evEFIAction, data: "x"}), CCEL, SHA384)
	wantReason(t, err, ReasonMalformed)
	want, err := Replay(good, TCG, SHA384)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range good { // wherever it ends too early, nothing matches or nothing parses
		if _, err := Verify(good[:cut], TCG, want); err == nil {
			t.Fatalf("cut to %d bytes: accepted", cut)
		}
	}
}

// TestMeasuredBytesUnderAnotherTypeAreStillClaimed: whoever writes the log knows what he started, and may put all
// the bytes that were hashed beside the digest, under a type of which the digest covers the data.
func TestMeasuredBytesUnderAnotherTypeAreStillClaimed(t *testing.T) {
	const program = "MZ\x90\x00 any program"
	asVariable := variableData("MZ\x90\x00 any program", "", "the rest of it") // its fields are where a program's may be anything
	tcg := func(e entry) []entry { return append(tpmBoot(), e) }
	cc := func(e entry) []entry { boot := ccBoot(); return inserted(boot, len(boot)-1, e) }
	for name, c := range map[string]struct {
		format  Format
		entries []entry
	}{
		"a program as an action of the firmware":   {TCG, tcg(entry{index: 4, typ: evEFIAction, data: program})},
		"a program as an action, in RTMR1":         {CCEL, cc(entry{index: 2, typ: evEFIAction, data: program})},
		"a program as a partition table, in RTMR1": {CCEL, cc(entry{index: 2, typ: evGPT, data: program})},
		"a file as a partition table":              {TCG, tcg(entry{index: 9, typ: evGPT, data: "EFI PART, says a file"})},
		"a file as a separator":                    {TCG, tcg(entry{index: 9, typ: evSeparator, data: program})},
		"a file as a separator, in RTMR2":          {CCEL, cc(entry{index: 3, typ: evSeparator, data: program})},
		"a file as a variable":                     {TCG, tcg(entry{index: 9, typ: evVariableDriverConfig, data: asVariable})},
		"a file as a loader's command":             {TCG, tcg(entry{index: 9, typ: evIPL, data: "grub_cmd: set x\ny\x00", digest: "set x\ny"})},
		"a command line of systemd-stub":           {TCG, tcg(entry{index: 12, typ: evIPL, data: string(utf16le("init=/bin/sh"))})},
	} {
		before, err := judged(t, c.format, map[Format][]entry{TCG: tpmBoot(), CCEL: ccBoot()}[c.format]...)
		if err != nil {
			t.Fatal(err)
		}
		after, err := judged(t, c.format, c.entries...)
		if err == nil && len(after.Boot) != len(before.Boot)+1 {
			t.Errorf("%s: %s", name, show(after))
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
