package setup

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/crypto/zk/ceremony"
	"github.com/anchorhold/anchorhold/crypto/zk/ptau/ptautest"
)

// TestEachStepOfACeremonySaysWhatItNeeds before it does anything, and does not go out of order.
func TestEachStepOfACeremonySaysWhatItNeeds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ceremony")
	begin := &ceremonyBeginOptions{choice: circuitChoice{gradient: 3, bits: 8}, out: dir}
	clitest.Call{Run: begin.run, Says: "A ceremony has begun in " + dir}.Expect(t, "begin")
	with := func(o stepOptions) cli.Run { return o.run }
	clitest.Calls(t, map[string]clitest.Call{
		"begin twice":      {Run: begin.run, Status: cli.StatusFailed, Says: "ceremony"},
		"begin nowhere":    {Run: (&ceremonyBeginOptions{choice: circuitChoice{gradient: 3, bits: 8}}).run, Status: cli.StatusUsage, Says: "--out is required: the directory of the ceremony"},
		"no ceremony":      {Run: with(stepOptions{do: (*stepOptions).verify}), Args: []string{dir + "x"}, Status: cli.StatusFailed, Says: "no such file"},
		"nobody":           {Run: with(stepOptions{do: (*stepOptions).contribute}), Args: []string{dir}, Status: cli.StatusUsage, Says: "--name is required: the name of this party"},
		"no beacon":        {Run: with(stepOptions{do: (*stepOptions).end}), Args: []string{dir}, Status: cli.StatusUsage, Says: "--beacon is required, in hexadecimal"},
		"a beacon in text": {Run: with(stepOptions{do: (*stepOptions).end, beacon: "noon"}), Args: []string{dir}, Status: cli.StatusUsage},
		"ended too early":  {Run: with(stepOptions{do: (*stepOptions).end, beacon: strings.Repeat("ab", 16)}), Args: []string{dir}, Status: cli.StatusRefused},
		"keys nowhere":     {Run: with(stepOptions{do: (*stepOptions).keys}), Args: []string{dir}, Status: cli.StatusUsage, Says: "--out is required"},
		"keys too early":   {Run: with(stepOptions{do: (*stepOptions).keys, out: filepath.Join(dir, "keys")}), Args: []string{dir}, Status: cli.StatusRefused},
		"verified":         {Run: with(stepOptions{do: (*stepOptions).verify, note: verifyDone}), Args: []string{dir}, JSON: true, Says: `"phase": 1`},
		"shown":            {Run: with(stepOptions{do: (*stepOptions).verify, note: verifyDone}), Args: []string{dir}, Says: verifyDone + "\ncircuit     "},
		"full disk":        {Run: with(stepOptions{do: (*stepOptions).verify}), Args: []string{dir}, Out: clitest.Full{}, Status: cli.StatusFailed},
	})
}

// TestAnInterruptEndsEachStepOfACeremony, and leaves the ceremony as it was.
func TestAnInterruptEndsEachStepOfACeremony(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ceremony")
	clitest.Call{Run: (&ceremonyBeginOptions{choice: circuitChoice{gradient: 1, bits: 8}, out: dir}).run}.Expect(t, "begin")
	contribute := stepOptions{do: (*stepOptions).contribute, name: "a party"}
	end := stepOptions{do: (*stepOptions).end, beacon: strings.Repeat("ab", 16)}
	call := func(o stepOptions, cancelled bool) clitest.Call {
		c := clitest.Call{Run: o.run, Args: []string{dir}, Cancelled: cancelled}
		if cancelled {
			c.Status, c.Reason = cli.StatusFailed, "interrupted"
		}
		return c
	}
	call(contribute, true).Expect(t, "contribute, interrupted")
	call(stepOptions{do: (*stepOptions).verify}, true).Expect(t, "verify, interrupted")
	for range 2 {
		call(contribute, false).Expect(t, "contribute")
	}
	call(end, true).Expect(t, "end, interrupted")
	open, err := ceremony.Open(dir)
	if err != nil || open.Phase() != 1 || len(open.State.Phases[0].Contributions) != 2 {
		t.Errorf("an interrupted step changed the ceremony: %+v, %v", open, err)
	}
}

// TestPowersAreHeldAgainstTheirDigest: a file that somebody put in the published one's place is
// refused, with the digests that it has.
func TestPowersAreHeldAgainstTheirDigest(t *testing.T) {
	path, short, long := powersFile(t, ptautest.File(ptautest.Quick(4)))
	text, textDigest, _ := powersFile(t, []byte("no powers"))
	dir := t.TempDir()
	setup := func(p powersChoice, c circuitChoice) cli.Run {
		p.plonk = true
		return (&setupOptions{choice: c, powers: p, out: filepath.Join(dir, "keys")}).run
	}
	gradient := circuitChoice{gradient: 3, bits: 8}
	clitest.Calls(t, map[string]clitest.Call{
		"no file":        {Run: setup(powersChoice{digest: short}, gradient), Status: cli.StatusUsage, Says: "--ptau, a powers-of-tau file, and --ptau-digest"},
		"no digest":      {Run: setup(powersChoice{path: path}, gradient), Status: cli.StatusUsage, Says: "can forge proofs"},
		"half a digest":  {Run: setup(powersChoice{path: path, digest: short[:40]}, gradient), Status: cli.StatusUsage},
		"not there":      {Run: setup(powersChoice{path: path + "x", digest: short}, gradient), Status: cli.StatusFailed, Says: "no such file"},
		"no powers":      {Run: setup(powersChoice{path: text, digest: textDigest}, gradient), Status: cli.StatusRefused, Says: text},
		"another digest": {Run: setup(powersChoice{path: path, digest: strings.Repeat("0", 128)}, gradient), Status: cli.StatusRefused, Says: "its BLAKE2b is " + long + ", its SHA-256 " + short},
		"for updates":    {Run: setup(powersChoice{path: path, digest: " " + short + "\n"}, gradient), Status: cli.StatusUsage, Says: "--plonk makes keys for classifiers only"},
		"interrupted":    {Run: setup(powersChoice{path: path, digest: short}, gradient), Cancelled: true, Status: cli.StatusFailed, Reason: "interrupted"},
		"for Groth16":    {Run: (&setupOptions{choice: gradient, powers: powersChoice{path: path}, out: dir}).run, Status: cli.StatusUsage, Says: "--ptau needs --plonk"},
		"too few":        {Run: (&ceremonyBeginOptions{choice: gradient, powers: powersChoice{path: path, digest: short}, out: filepath.Join(dir, "c")}).run, Status: cli.StatusRefused, Says: path},
	})
}

// TestWhatKeysAreForIsSaidOnce: a model with its key and publisher, or the length of updates.
func TestWhatKeysAreForIsSaidOnce(t *testing.T) {
	dir := t.TempDir()
	key := clitest.Write(t, filepath.Join(dir, "key"), strings.Repeat("k", 32))
	setup := func(c circuitChoice) cli.Run {
		return (&setupOptions{choice: c, out: filepath.Join(dir, "keys")}).run
	}
	clitest.Calls(t, map[string]clitest.Call{
		"nothing":      {Run: setup(circuitChoice{}), Status: cli.StatusUsage, Says: "name a sealed classifier, or give --gradient"},
		"both":         {Run: setup(circuitChoice{gradient: 3, bits: 8}), Args: []string{"m.ahm"}, Status: cli.StatusUsage, Says: "name a model or give --gradient, not both"},
		"no key":       {Run: setup(circuitChoice{publisher: "p"}), Args: []string{"m.ahm"}, Status: cli.StatusUsage, Says: "--key is required to read the model's architecture"},
		"no publisher": {Run: setup(circuitChoice{key: key}), Args: []string{"m.ahm"}, Status: cli.StatusUsage, Says: "--publisher is required"},
		"a key's file": {Run: setup(circuitChoice{key: key + "x", publisher: "p"}), Args: []string{"m.ahm"}, Status: cli.StatusFailed, Says: "no such file"},
		"a publisher":  {Run: setup(circuitChoice{key: key, publisher: "none.pub"}), Args: []string{"m.ahm"}, Status: cli.StatusFailed, Says: "none.pub"},
		"bits":         {Run: setup(circuitChoice{gradient: 3, bits: 9}), Status: cli.StatusUsage},
		"nowhere":      {Run: (&setupOptions{choice: circuitChoice{gradient: 3, bits: 8}}).run, Status: cli.StatusUsage, Says: "--out is required: a directory for circuit, keys and record"},
		"made":         {Run: setup(circuitChoice{gradient: 3, bits: 8}), Says: "setup          DEVELOPMENT: whoever made these keys could forge proofs\n"},
	})
}
