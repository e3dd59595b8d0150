package openmodel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
)

// sized is a model whose file has so many MiB, none of them on the disk; 0 is a file that is not there.
func sized(t *testing.T, name string, mib, part int, mode string) settings.Model {
	t.Helper()
	m := settings.Model{Name: name, Path: filepath.Join(t.TempDir(), "model.ahm"), MemoryMB: part, Mode: mode}
	if mib > 0 {
		f, err := os.Create(m.Path)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(int64(mib) << 20); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func limited(mib int, models ...settings.Model) (cfg settings.Config) {
	cfg.Compute.TEE.MemoryLimitMB, cfg.Models = mib, models
	return cfg
}

func parts(t *testing.T, cfg settings.Config) (list []int) {
	t.Helper()
	models, err := Shares(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range models {
		list = append(list, m.MemoryMB)
	}
	return list
}

// TestModelsShareWhatOthersLeave: a small one gets what it needs, and the rest is for those that would stream.
func TestModelsShareWhatOthersLeave(t *testing.T) {
	const two, three = ProcessReserve>>20 + HeapLimit>>20, ProcessReserve>>20 + 2*HeapLimit>>20
	large := func(name string) settings.Model { return sized(t, name, 400, 0, "") } // needs 466
	small := func(name string) settings.Model { return sized(t, name, 40, 0, "") }  // needs 61
	for name, c := range map[string]struct {
		limit  int
		models []settings.Model
		want   []int
	}{
		"what a small one does not need":                 {two + 400, []settings.Model{large("a"), small("b")}, []int{339, 61}},
		"and it stands first":                            {two + 400, []settings.Model{small("a"), large("b")}, []int{61, 339}},
		"equal shares where all need more":               {two + 401, []settings.Model{large("a"), large("b")}, []int{201, 200}},
		"the rest of a small one, in order":              {three + 1000, []settings.Model{large("a"), small("b"), large("c")}, []int{470, 61, 469}},
		"the rest of a small one, less":                  {three + 900, []settings.Model{large("a"), small("b"), large("c")}, []int{466, 61, 373}},
		"what nobody needs":                              {two + 610, []settings.Model{large("a"), sized(t, "b", 40, 0, "")}, []int{540, 70}},
		"one that streams needs no weights in memory":    {two + 500, []settings.Model{sized(t, "a", 400, 0, "streamed"), large("b")}, []int{66, 434}},
		"a part that is stated is neither more nor less": {three + 500, []settings.Model{small("a"), sized(t, "b", 40, 300, ""), large("c")}, []int{61, 300, 139}},
		"a file that is not there":                       {two + 200, []settings.Model{sized(t, "a", 0, 0, ""), large("b")}, []int{16, 184}},
		"too little for anybody":                         {two + 2, []settings.Model{large("a"), small("b")}, []int{1, 1}},
	} {
		if got := parts(t, limited(c.limit, c.models...)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	_, err := Shares(limited(two+1, large("a"), small("b")))
	refusaltest.Want(t, "two models in one MiB", err, ReasonShares)
	if !strings.Contains(fmt.Sprint(err), "nothing is left for model b") {
		t.Error(err)
	}
	if got := parts(t, limited(128, large("a"))); !slices.Equal(got, []int{0}) {
		t.Errorf("a model alone has the part %v", got)
	}
}

// TestPartsAreTheLimit: whatever the models, all parts together are exactly what the process leaves, each has what it needs up to an
// equal share, none goes without while another has more than it needs, and the plan of a plan is the same.
func TestPartsAreTheLimit(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var models []settings.Model
		for i := range 2 + rng.IntN(7) {
			models = append(models, sized(t, fmt.Sprint(i), rng.IntN(3)*rng.IntN(300), rng.IntN(2)*rng.IntN(60), []string{"", "auto", "streamed"}[rng.IntN(3)]))
		}
		models[0].MemoryMB = 0
		cfg := limited(700+rng.IntN(3000), models...)
		plan, err := Plan(cfg)
		if err != nil {
			t.Fatal(err)
		}
		left, shared, n := int((cfg.MemoryLimit()-Reserve(cfg))>>20), 0, 0
		short, over := false, false
		for i, s := range plan {
			if left -= s.MemoryMB; s.Stated {
				if s.MemoryMB != models[i].MemoryMB {
					t.Errorf("a stated part of %d became %d", models[i].MemoryMB, s.MemoryMB)
				}
				continue
			}
			n, shared = n+1, shared+s.MemoryMB
			short, over = short || s.MemoryMB < s.Need, over || s.MemoryMB > s.Need
		}
		for _, s := range plan {
			if !s.Stated && s.MemoryMB < min(s.Need, shared/n) {
				t.Errorf("model %s has %d of the %d that it needs", s.Name, s.MemoryMB, s.Need)
			}
		}
		if left != 0 || short && over {
			t.Errorf("%d MiB are left over; %+v", left, plan)
		}
		again := cfg
		again.Models = nil
		var want []int
		for _, s := range plan {
			again.Models, want = append(again.Models, s.Model), append(want, s.MemoryMB)
		}
		if got := parts(t, again); !slices.Equal(got, want) {
			t.Errorf("the plan of a plan is %v, want %v", got, want)
		}
	}
}

// TestFilesOfAnySizeKeepTheLimit: the host may give a file a size whose sums overflow.
func TestFilesOfAnySizeKeepTheLimit(t *testing.T) {
	need := func(size int64) *Share {
		mib := mebibytes(size)
		return &Share{File: mib, Need: engineMB + mib + mib/enginePart}
	}
	for _, size := range []int64{0, 1, 1 << 20, 1<<20 + 1, 1 << 50, math.MaxInt64} {
		list := []*Share{need(size), need(math.MaxInt64), need(40 << 20)}
		divide(list, 200)
		sum := 0
		for _, s := range list {
			if sum += s.MemoryMB; s.MemoryMB < 1 {
				t.Errorf("%d bytes: %+v", size, s)
			}
		}
		if sum != 200 {
			t.Errorf("%d bytes: parts are %d in all, want 200", size, sum)
		}
	}
	if a, b := mebibytes(1<<20), mebibytes(1<<20+1); a != 1 || b != 2 {
		t.Errorf("a MiB and a byte more are %d and %d MiB", a, b)
	}
}

// TestPlanIsPrinted as a table.
func TestPlanIsPrinted(t *testing.T) {
	cfg := limited(300, sized(t, "chat", 400, 0, ""), sized(t, "minilm", 24, 50, ""), sized(t, "spare", 0, 0, ""))
	plan, err := Plan(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	PrintPlan(&out, cfg, plan)
	const want = `memory of 300 MiB:
                              part   needs    file
  process and requests          36
  chat                         198     466     400  shared; some weights may have to be streamed, or the context is shorter
  minilm                        50      43      24  memory_mb; weights in memory
  spare                         16      16       0  shared; the file is not there
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

// TestConnectionsAboveTheDefaultTakeOfTheLimit: the models get what they leave.
func TestConnectionsAboveTheDefaultTakeOfTheLimit(t *testing.T) {
	cfg := limited(128)
	before := Reserve(cfg)
	cfg.Socket.Limits.Connections = 500
	if more := Reserve(cfg) - before; more < 8<<20 || more != cfg.ConnectionMemory() {
		t.Errorf("%d bytes more are kept from models for %d connections", more, cfg.Socket.Limits.Connections)
	}
}
