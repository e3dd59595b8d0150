package store

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// issuer makes lists of one number and date with the same bytes again.
type issuer struct {
	key   *ecdsa.PrivateKey
	lists map[string][]byte
}

func newIssuer(tb testing.TB) *issuer {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return &issuer{key, map[string][]byte{}}
}

func (i *issuer) list(tb testing.TB, number int64, day int) []byte {
	tb.Helper()
	name := fmt.Sprint(number, day)
	if i.lists[name] == nil {
		from := noon.AddDate(0, 0, day)
		der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: from, NextUpdate: from.AddDate(0, 0, 30)},
			&x509.Certificate{Subject: pkix.Name{CommonName: "x"}, KeyUsage: x509.KeyUsageCRLSign, SubjectKeyId: []byte{1}}, i.key)
		if err != nil {
			tb.Fatal(err)
		}
		i.lists[name] = der
	}
	return i.lists[name]
}

func key(tb testing.TB, text string) collateral.Key {
	tb.Helper()
	k, err := collateral.ParseKey(text)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func open(tb testing.TB, dir string) *Store {
	tb.Helper()
	s, err := Open(dir)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func vcek(tb testing.TB, n int) collateral.Item {
	hwid := make([]byte, 64)
	hwid[0], hwid[62], hwid[63] = 1, byte(n>>8), byte(n)
	return collateral.Item{Key: key(tb, "amd-vcek/Milan/"+hex.EncodeToString(hwid)+"/000400181d"), Fetched: noon, Documents: [][]byte{bytes.Repeat([]byte{byte(n)}, 1360)}}
}

func crl(tb testing.TB, i *issuer, number int64, day int) collateral.Item {
	return collateral.Item{Key: key(tb, "amd-crl/Milan"), Fetched: noon, Documents: [][]byte{i.list(tb, number, day)}}
}

func TestListsNeverGoBackAlsoAfterARestart(t *testing.T) {
	dir, i := t.TempDir(), newIssuer(t)
	for step, c := range []struct {
		number  int64
		day     int
		reason  refusal.Reason
		changed bool
	}{{5, 0, "", true}, {5, 0, "", false}, {4, 0, collateral.ReasonRollback, false}, {6, -1, collateral.ReasonRollback, false}, {5, 1, "", true}, {5, 0, collateral.ReasonRollback, false}, {7, 1, "", true}} {
		changed, err := open(t, dir).Put(crl(t, i, c.number, c.day)) // each time by a new process
		if refusaltest.Want(t, fmt.Sprint("step ", step), err, c.reason); changed != c.changed {
			t.Errorf("step %d: changed is %t", step, changed)
		}
	}
	other := newIssuer(t)
	_, err := open(t, dir).Put(crl(t, other, 7, 1))
	refusaltest.Want(t, "other bytes", err, collateral.ReasonConflict)
	it, err := open(t, dir).Get(key(t, "amd-crl/Milan"))
	if err != nil || !bytes.Equal(it.Documents[0], i.list(t, 7, 1)) {
		t.Errorf("the newest list is not the kept one: %v", err)
	}
}

func tdx(tb testing.TB, i *issuer, platform string, tcb, qe, day int, lists ...int) collateral.Item {
	doc := func(member string, number int) []byte {
		at := noon.AddDate(0, 0, day)
		return fmt.Appendf(nil, `{%q:{"issueDate":%q,"nextUpdate":%q,"tcbEvaluationDataNumber":%d},"signature":""}`, member, at.Format(time.RFC3339), at.AddDate(0, 0, 30).Format(time.RFC3339), number)
	}
	return collateral.Item{Key: key(tb, "intel-tdx/"+platform), Fetched: noon, Documents: [][]byte{doc("tcbInfo", tcb), {1}, doc("enclaveIdentity", qe), {1}, i.list(tb, 1, lists[0]), {1}, i.list(tb, 1, lists[1])}}
}

// TestPlatformsShareWhatIsNewest: a document that all platforms have does not go back with a new one.
func TestPlatformsShareWhatIsNewest(t *testing.T) {
	dir, i := t.TempDir(), newIssuer(t)
	s := open(t, dir)
	const a, b, early, processor = "90c06f000000/platform/standard", "00a06d080000/platform/standard", "00a06d080000/platform/early", "00a06d080000/processor/standard"
	for _, c := range []struct {
		what   string
		item   collateral.Item
		reason refusal.Reason
	}{
		{"the first", tdx(t, i, a, 18, 18, 2, 2, 2), ""},
		{"another with an older identity", tdx(t, i, b, 17, 17, 2, 2, 2), collateral.ReasonRollback},
		{"another with an older root list", tdx(t, i, b, 17, 18, 2, 2, 1), collateral.ReasonRollback},
		{"another with an older PCK list", tdx(t, i, b, 17, 18, 2, 1, 2), collateral.ReasonRollback},
		{"another authority's PCK list is its own", tdx(t, i, processor, 17, 18, 2, 1, 2), ""},
		{"early documents are apart", tdx(t, i, early, 19, 17, 1, 2, 2), ""},
		{"another with its own TCB number", tdx(t, i, b, 17, 18, 2, 2, 2), ""},
		{"the same with a lower one", tdx(t, i, b, 16, 18, 2, 2, 2), collateral.ReasonRollback},
	} {
		_, err := s.Put(c.item)
		refusaltest.Want(t, c.what, err, c.reason)
	}
	found, err := s.Newest(key(t, "intel-tdx/"+a))
	if err != nil || len(found) != 8 || found["intel-tcb/90c06f000000/standard"].Stamp.Number.Int64() != 18 || len(found["intel-qe/standard"].Parts) != 2 {
		t.Errorf("%d documents, %v", len(found), err)
	}
}

func TestCertificatesAreKeptAsTheyAre(t *testing.T) {
	s := open(t, t.TempDir())
	first := vcek(t, 1)
	if changed, err := s.Put(first); err != nil || !changed || s.Count() != 1 {
		t.Fatalf("%t, %v", changed, err)
	}
	again := vcek(t, 1)
	again.Documents[0] = []byte("another")
	if changed, err := s.Put(again); err != nil || changed {
		t.Errorf("a kept certificate was replaced: %t, %v", changed, err)
	}
	if it, err := s.Get(first.Key); err != nil || !bytes.Equal(it.Documents[0], first.Documents[0]) {
		t.Errorf("%v", err)
	}
	if err := s.Replace(again); err != nil {
		t.Error(err)
	}
	refusaltest.Want(t, "a list", s.Replace(crl(t, newIssuer(t), 1, 1)), collateral.ReasonRollback)
	_, err := s.Get(vcek(t, 2).Key)
	refusaltest.Want(t, "missing", err, collateral.ReasonMissing)
	s.limit = 1
	_, err = s.Put(vcek(t, 2))
	refusaltest.Want(t, "one too many", err, collateral.ReasonFull)
	if _, err := s.Put(again); err != nil {
		t.Errorf("full, and what is kept is refused: %v", err)
	}
}

func TestDamagedFilesAreFoundAndReplaced(t *testing.T) {
	dir, i := t.TempDir(), newIssuer(t)
	s := open(t, dir)
	if _, err := s.Put(crl(t, i, 5, 0)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "amd-crl_Milan.item")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	genoa := bytes.Replace(raw, []byte("\x0damd-crl/Milan"), []byte("\x0damd-crl/Genoa"), 1)
	for what, data := range map[string][]byte{"cut short": raw[:100], "empty": {}, "of another key": genoa, "large": make([]byte, collateral.MaxItemBytes+2)} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(key(t, "amd-crl/Milan")); err == nil {
			t.Errorf("%s: read", what)
		}
		if changed, err := s.Put(crl(t, i, 5, 0)); err != nil || !changed {
			t.Errorf("%s: not replaced: %v", what, err)
		}
	}
	for _, name := range []string{"README", "amd-crl_Rome.item", "amd-crl_Milan.item.bak", ".item"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if keys, err := s.Keys(); err != nil || len(keys) != 1 {
		t.Errorf("%v, %v", keys, err)
	}
	if _, err := Open(filepath.Join(dir, "none")); err == nil {
		t.Error("opened a directory that is not there")
	}
}

// TestACrashLeavesTheOldOrTheNew: what was not given its name is removed at the next start.
func TestACrashLeavesTheOldOrTheNew(t *testing.T) {
	dir, i := t.TempDir(), newIssuer(t)
	if _, err := open(t, dir).Put(crl(t, i, 5, 0)); err != nil {
		t.Fatal(err)
	}
	newer, err := crl(t, i, 6, 1).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 10, len(newer)} {
		unfinished := filepath.Join(dir, ".new-123")
		if err := os.WriteFile(unfinished, newer[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		it, err := open(t, dir).Get(key(t, "amd-crl/Milan"))
		if err != nil || !bytes.Equal(it.Documents[0], i.list(t, 5, 0)) {
			t.Errorf("after %d bytes: %v", n, err)
		}
		if _, err := os.Stat(unfinished); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after %d bytes: the unfinished file is still there: %v", n, err)
		}
	}
}

// TestTwoProcessesOnOneDirectory put lists of rising and mixed numbers at the same time: the
// highest stays.
func TestTwoProcessesOnOneDirectory(t *testing.T) {
	if dir := os.Getenv("COLLATERAL_CHILD"); dir != "" {
		writeMany(t, dir)
		return
	}
	dir, lists, i := t.TempDir(), t.TempDir(), newIssuer(t)
	for n := range 40 {
		if err := os.WriteFile(filepath.Join(lists, strconv.Itoa(n)), i.list(t, int64(n+1), n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			cmd := exec.Command(os.Args[0], "-test.run=^TestTwoProcessesOnOneDirectory$")
			cmd.Env = append(os.Environ(), "COLLATERAL_CHILD="+dir, "COLLATERAL_LISTS="+lists)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	all.Wait()
	s := open(t, dir)
	it, err := s.Get(key(t, "amd-crl/Milan"))
	if err != nil || !bytes.Equal(it.Documents[0], i.list(t, 40, 39)) {
		t.Errorf("the highest is not the kept one: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func writeMany(t *testing.T, dir string) {
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			s := open(t, dir)
			kept := int64(0)
			for n := range 40 {
				n = (n*7 + worker*11) % 40
				der, err := os.ReadFile(filepath.Join(os.Getenv("COLLATERAL_LISTS"), strconv.Itoa(n)))
				if err != nil {
					t.Error(err)
					return
				}
				_, err = s.Put(collateral.Item{Key: key(t, "amd-crl/Milan"), Fetched: noon, Documents: [][]byte{der}})
				if reason, _ := refusal.ReasonOf(err); err != nil && reason != collateral.ReasonRollback {
					t.Error(err)
				}
				it, err := s.Get(key(t, "amd-crl/Milan"))
				if err != nil {
					t.Error(err)
					return
				}
				stamps, err := it.Stamps()
				if err != nil || stamps[0].Number.Int64() < kept {
					t.Errorf("number %v after %d, %v", stamps, kept, err)
					return
				}
				kept = stamps[0].Number.Int64()
			}
		})
	}
	all.Wait()
}

func TestAttemptsAreNotedAndForgotten(t *testing.T) {
	dir := t.TempDir()
	s, k := open(t, dir), key(t, "amd-crl/Milan")
	if err := s.Attempted(k, Attempt{}); err != nil || len(s.Attempts()) != 0 {
		t.Fatal(err)
	}
	a := Attempt{At: noon, Failures: 3, Reason: "collateral-unavailable", Error: "no answer"}
	if err := s.Attempted(k, a); err != nil {
		t.Fatal(err)
	}
	if got := open(t, dir).Attempts()[k.String()]; got != a {
		t.Errorf("%+v", got)
	}
	if err := s.Attempted(k, Attempt{}); err != nil || len(open(t, dir).Attempts()) != 0 {
		t.Errorf("%v", err)
	}
	for _, text := range []string{"null", "[", strings.Repeat(" ", maxAttemptsBytes+1)} {
		if err := os.WriteFile(filepath.Join(dir, attemptsFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := s.Attempts(); got == nil || len(got) != 0 {
			t.Errorf("%.10q: %v", text, got)
		}
	}
}

// fill writes certificates without syncing each.
func fill(tb testing.TB, dir string, n int) {
	tb.Helper()
	for i := range n {
		it := vcek(tb, i)
		data, err := it.Marshal()
		if err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, it.Key.FileName()+suffix), data, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
}

// TestTenThousandCertificatesAreKept: the time that they take to open is in docs/performance.md.
func TestTenThousandCertificatesAreKept(t *testing.T) {
	longtest.Run(t, "it writes ten thousand files")
	dir := t.TempDir()
	fill(t, dir, 10_000)
	s := open(t, dir)
	if s.Count() != 10_000 {
		t.Errorf("%d certificates opened", s.Count())
	}
	if it, err := s.Get(vcek(t, 9_999).Key); err != nil || len(it.Documents[0]) != 1360 {
		t.Errorf("%v", err)
	}
}

func BenchmarkOpenTenThousand(b *testing.B) {
	dir := b.TempDir()
	fill(b, dir, 10_000)
	for b.Loop() {
		open(b, dir)
	}
}

func BenchmarkGet(b *testing.B) {
	dir := b.TempDir()
	fill(b, dir, 10_000)
	s, k := open(b, dir), vcek(b, 5000).Key
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Get(k); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPut(b *testing.B) {
	s := open(b, b.TempDir())
	for n := 0; b.Loop(); n++ {
		it := vcek(b, n)
		it.Key = key(b, fmt.Sprintf("amd-vcek/Turin/%016x/0102030405", n+1))
		if _, err := s.Put(it); err != nil {
			b.Fatal(err)
		}
	}
}
