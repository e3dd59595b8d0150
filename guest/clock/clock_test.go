package clock

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// tree writes files below a root of their own.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func register(bits uint64) string {
	return string(binary.LittleEndian.AppendUint64(nil, bits))
}

// TestSourceIsNeverBetterThanWhatIsKnown: only the processor's own word makes a
// clock one that the host cannot reach.
func TestSourceIsNeverBetterThanWhatIsKnown(t *testing.T) {
	const secure = statusSNP | statusSecureTSC
	for name, c := range map[string]struct {
		files map[string]string
		want  evidence.ClockSource
	}{
		"no kernel interface":          {nil, evidence.ClockUnknown},
		"a name that is not listed":    {map[string]string{SourceFile: "sundial\n"}, evidence.ClockUnknown},
		"the counter of early boot":    {map[string]string{SourceFile: "tsc-early\n", StatusFile: register(secure)}, evidence.ClockUnknown},
		"kvm-clock":                    {map[string]string{SourceFile: "kvm-clock\n"}, evidence.ClockParavirtual},
		"kvm-clock beside Secure TSC":  {map[string]string{SourceFile: "kvm-clock\n", StatusFile: register(secure)}, evidence.ClockParavirtual},
		"hpet":                         {map[string]string{SourceFile: "hpet\n"}, evidence.ClockTimer},
		"counter alone":                {map[string]string{SourceFile: "tsc\n"}, evidence.ClockTSC},
		"counter, SNP, no Secure TSC":  {map[string]string{SourceFile: "tsc\n", StatusFile: register(statusSNP)}, evidence.ClockTSC},
		"counter, Secure TSC, no SNP":  {map[string]string{SourceFile: "tsc\n", StatusFile: register(statusSecureTSC)}, evidence.ClockTSC},
		"a register that is cut short": {map[string]string{SourceFile: "tsc\n", StatusFile: register(secure)[:7]}, evidence.ClockTSC},
		"a register that is too long":  {map[string]string{SourceFile: "tsc\n", StatusFile: register(secure) + "x"}, evidence.ClockTSC},
		"counter, SNP with Secure TSC": {map[string]string{SourceFile: "tsc\n", StatusFile: register(secure)}, evidence.ClockSecureTSC},
		"counter of a trust domain":    {map[string]string{SourceFile: "tsc\n", trustDomain + "/dev": "10:126\n"}, evidence.ClockTDX},
		"kvm-clock of a trust domain":  {map[string]string{SourceFile: "kvm-clock\n", trustDomain + "/dev": "10:126\n"}, evidence.ClockParavirtual},
		"a trust domain under SNP":     {map[string]string{SourceFile: "tsc\n", trustDomain + "/dev": "10:126\n", StatusFile: register(statusSNP)}, evidence.ClockTSC},
	} {
		if got := Source(tree(t, c.files)); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestRegisterIsReadAtItsNumber: the device's file is addressed by register.
func TestRegisterIsReadAtItsNumber(t *testing.T) {
	root := tree(t, map[string]string{SourceFile: "tsc\n", StatusDevice: ""})
	f, err := os.OpenFile(filepath.Join(root, StatusDevice), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(register(statusSNP|statusSecureTSC)), sevStatusRegister); err != nil { // a sparse file
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got := Source(root); got != evidence.ClockSecureTSC {
		t.Errorf("%v", got)
	}
}
