package operator

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

const (
	activePolicyFile    = "policy.yaml"
	referenceValuesFile = "reference-values.json"
	historyDir          = "history"
	maxHistory          = 10_000
)

// ErrPolicyVersion means that an imported policy is not newer than one of its id that
// was imported before: an old policy cannot be put back by importing it again.
var ErrPolicyVersion = errors.New("the policy is not newer than one imported before")

// Policies keeps the policy in force and the reference values as files in one
// directory. Current may be called at any time; changes are durable when the
// methods return, and a crash leaves the old state or the new one.
type Policies struct {
	dir     string
	now     func() time.Time
	current atomic.Pointer[policy.Policy]

	mu     sync.Mutex // held during changes
	source []byte
	values []policy.ReferenceValue
}

// OpenPolicies loads the directory, creating it if it is missing. Without a
// policy in it, Current returns nil and everything is refused.
func OpenPolicies(dir string, now func() time.Time) (*Policies, error) {
	if now == nil {
		now = time.Now
	}
	p := &Policies{dir: dir, now: now}
	if err := os.MkdirAll(filepath.Join(dir, historyDir), 0o700); err != nil {
		return nil, err
	}
	return p, p.Reload()
}

// Current returns the policy in force, or nil.
func (p *Policies) Current() *policy.Policy { return p.current.Load() }

// Reload reads the files again. If they do not load, what was in force stays.
func (p *Policies) Reload() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	values, err := readValues(filepath.Join(p.dir, referenceValuesFile))
	if err != nil {
		return err
	}
	source, err := os.ReadFile(filepath.Join(p.dir, activePolicyFile))
	if errors.Is(err, os.ErrNotExist) {
		p.values = values
		return nil
	}
	if err != nil {
		return err
	}
	next, err := load(source, values)
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(p.dir, activePolicyFile), err)
	}
	p.source, p.values = source, values
	p.current.Store(next)
	return nil
}

func readValues(path string) ([]policy.ReferenceValue, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return policy.ParseReferenceValues(b)
}

func load(source []byte, values []policy.ReferenceValue) (*policy.Policy, error) {
	parsed, err := policy.Parse(source)
	if err != nil {
		return nil, err
	}
	return parsed.WithReferenceValues(values)
}

// Import checks a policy and puts it in force. Its version must be higher than any of
// the same id that was imported before.
func (p *Policies) Import(source []byte) (*policy.Policy, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next, err := load(source, p.values)
	if err != nil {
		return nil, err
	}
	newest, err := p.newest(next.ID())
	if err != nil {
		return nil, err
	}
	if next.Version() <= newest {
		return nil, fmt.Errorf("%w: version %d of %s was imported before, got version %d, want a higher one", ErrPolicyVersion, newest, next.ID(), next.Version())
	}
	kept := fmt.Sprintf("%x.yaml", next.Digest())
	if err := disk.Write(filepath.Join(p.dir, historyDir, kept), source); err != nil {
		return nil, err
	}
	if err := disk.Write(filepath.Join(p.dir, activePolicyFile), source); err != nil {
		return nil, err
	}
	p.source = source
	p.current.Store(next)
	return next, nil
}

// newest is the highest version of an id that is in force or ever was: an old policy does
// not come back by way of another one either. A file that this version cannot read any more
// still counts by the id and version that it states.
func (p *Policies) newest(id string) (version uint64, err error) {
	if old := p.current.Load(); old != nil && old.ID() == id {
		version = old.Version()
	}
	files, err := filepath.Glob(filepath.Join(p.dir, historyDir, "*.yaml"))
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		if oldID, oldVersion := stated(b); oldID == id {
			version = max(version, oldVersion)
		}
	}
	return version, nil
}

var (
	statedID      = regexp.MustCompile(`(?m)(?:^|[{,])[ \t]*["']?id["']?[ \t]*:[ \t]*["']?([^"'\s#,}]+)`)
	statedVersion = regexp.MustCompile(`(?m)(?:^|[{,])[ \t]*["']?version["']?[ \t]*:[ \t]*(0x)?([0-9A-Fa-f]+)`)
)

// stated is the id and version in a policy file, whatever else is in it, in YAML or JSON.
func stated(source []byte) (id string, version uint64) {
	if p, err := policy.Parse(source); err == nil {
		return p.ID(), p.Version()
	}
	if m := statedID.FindSubmatch(source); m != nil {
		id = string(m[1])
	}
	if m := statedVersion.FindSubmatch(source); m != nil {
		base := 10
		if len(m[1]) > 0 {
			base = 16
		}
		version, _ = strconv.ParseUint(string(m[2]), base, 64) // too large a number is none
	}
	return id, version
}

// ImportReferenceValues adds reference values, or replaces all of them, and says what that
// did to the policy in force.
func (p *Policies) ImportReferenceValues(add []policy.ReferenceValue, replace bool) (ValuesImported, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	values := add
	if !replace {
		values = policy.Merge(p.values, add)
	}
	before := p.current.Load()
	if err := p.setValues(values); err != nil {
		return ValuesImported{}, err
	}
	out := ValuesImported{Imported: len(add), Total: len(values)}
	if now := p.current.Load(); now != nil {
		out.Unmatched = now.Unmatched(values)
		if now.Digest() != before.Digest() {
			out.PolicyDigest = now.Digest()
		}
	}
	return out, nil
}

// setValues puts reference values in the place of those that are there; mu is held.
func (p *Policies) setValues(values []policy.ReferenceValue) error {
	var next *policy.Policy
	if old := p.current.Load(); old != nil {
		var err error
		if next, err = old.WithReferenceValues(values); err != nil {
			return err
		}
	}
	if err := p.writeValues(values); err != nil {
		return err
	}
	p.values = values
	if next != nil {
		p.current.Store(next)
	}
	return nil
}

// writeValues writes the file, or removes it if no value is left: a file has one or more.
func (p *Policies) writeValues(values []policy.ReferenceValue) error {
	path := filepath.Join(p.dir, referenceValuesFile)
	if len(values) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return disk.SyncDir(p.dir)
	}
	b, err := json.MarshalIndent(map[string]any{"format": 2, "reference_values": values}, "", "  ")
	if err != nil {
		return err
	}
	if _, err := policy.ParseReferenceValues(b); err != nil {
		return err
	}
	return disk.Write(path, b)
}

// ReasonValueNeeded means that without a reference value the policy in force would name
// some that are not there.
const ReasonValueNeeded refusal.Reason = "reference-value-needed"

// RemoveReferenceValue forgets a reference value. It refuses with ReasonValueNeeded if the
// policy in force would be left with a name or subtree that nothing matches, unless force
// says that its guests are to be refused.
func (p *Policies) RemoveReferenceValue(id string, force bool) (ValueRemoved, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := slices.DeleteFunc(slices.Clone(p.values), func(v policy.ReferenceValue) bool { return v.ID == id })
	if len(left) == len(p.values) {
		return ValueRemoved{}, &Error{http.StatusNotFound, "not-found", fmt.Sprintf("there is no reference value %q; anchorhold policy values list shows them", id)}
	}
	out := ValueRemoved{ID: id, Total: len(left)}
	if current := p.current.Load(); current != nil {
		had := current.Unmatched(p.values)
		out.Unmatched = slices.DeleteFunc(current.Unmatched(left), func(pattern string) bool { return slices.Contains(had, pattern) })
		out.Accepted = slices.ContainsFunc(current.ReferenceValues(), func(v policy.ReferenceValue) bool { return v.ID == id })
		if len(out.Unmatched) > 0 && !force {
			return ValueRemoved{}, refusal.New(ReasonValueNeeded, "policy %s version %d names %s, and nothing else matches it: all its guests would be refused; import another policy or value first, or use --force",
				current.ID(), current.Version(), strings.Join(out.Unmatched, ", "))
		}
	}
	if err := p.setValues(left); err != nil {
		return ValueRemoved{}, err
	}
	if current := p.current.Load(); current != nil {
		out.PolicyDigest = current.Digest()
	}
	return out, nil
}

// ReferenceValues returns the imported values.
func (p *Policies) ReferenceValues() []policy.ReferenceValue {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]policy.ReferenceValue(nil), p.values...)
}

// Show describes the policy in force with its source, or returns nil.
func (p *Policies) Show() *PolicyInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	current := p.current.Load()
	if current == nil {
		return nil
	}
	info := describe(current)
	info.Active, info.Warnings = true, current.Warnings()
	info.Source, info.Explanation, info.ReferenceValues = string(p.source), policy.Explain(current), current.ReferenceValues()
	return &info
}

func describe(p *policy.Policy) PolicyInfo {
	info := PolicyInfo{ID: p.ID(), Version: p.Version(), Digest: p.Digest(), Waived: p.Waived()}
	info.NotBefore, info.NotAfter = p.Validity()
	return info
}

// History lists every policy that was ever imported here, oldest first. Of one that cannot be
// read any more it says so.
func (p *Policies) History() ([]PolicyInfo, error) {
	entries, err := os.ReadDir(filepath.Join(p.dir, historyDir))
	if err != nil {
		return nil, err
	}
	if len(entries) > maxHistory {
		entries = entries[len(entries)-maxHistory:]
	}
	out := []PolicyInfo{}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".yaml" {
			continue
		}
		info, err := p.imported(e.Name())
		if err != nil {
			info.File, info.Unreadable = filepath.Join(filepath.Base(p.dir), historyDir, e.Name()), err.Error()
		}
		if st, err := e.Info(); err == nil {
			info.Imported = st.ModTime().UTC()
		}
		out = append(out, info)
	}
	sortByImport(out)
	return out, nil
}

// imported describes one policy of the history.
func (p *Policies) imported(name string) (info PolicyInfo, err error) {
	b, err := os.ReadFile(filepath.Join(p.dir, historyDir, name))
	if err != nil {
		return info, err
	}
	old, err := policy.Parse(b)
	if err != nil {
		info.ID, info.Version = stated(b)
		return info, err
	}
	info = describe(old)
	// The file's name is the digest as it was imported: with the reference values of that day.
	if err := info.Digest.UnmarshalText([]byte(strings.TrimSuffix(name, ".yaml"))); err != nil {
		return info, fmt.Errorf("its name is not the digest of a policy (%w): if the file was put here by hand, remove and import it", err)
	}
	return info, nil
}
