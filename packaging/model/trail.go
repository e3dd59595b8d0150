package model

import (
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

//go:embed trails/*.txt restarts/*.txt
var trails embed.FS

// Source is the model of leases, epochs and rounds.
//
//go:embed authority.pml
var Source string

// RestartSource is the model of restarts without the broker.
//
//go:embed restart.pml
var RestartSource string

// Trail is a shortest path to the property that a mutant breaks, or an honest story.
type Trail struct {
	// Name is the mutant's or story's, What says what it leaves out or tells.
	Name, What string
	Steps      []Step
	// Reached is true for a story that came to its end.
	Reached bool
}

// Step is one decision of one party.
type Step struct {
	Verb string
	args map[string]string
	// RefusedBy are the rules that refuse this step; the mutant departs at the first such step.
	// Violates are the properties that its last step breaks.
	RefusedBy, Violates []string
}

// Arg is an argument of the step as written, or empty.
func (s Step) Arg(name string) string { return s.args[name] }

// Number is an argument that is a number, 0 if there is none.
func (s Step) Number(name string) (int, error) {
	if s.args[name] == "" {
		return 0, nil
	}
	return strconv.Atoi(s.args[name])
}

// Names lists all trails of the model of leases, epochs and rounds.
func Names() ([]string, error) { return namesIn("trails") }

// RestartNames lists all trails of the model of restarts.
func RestartNames() ([]string, error) { return namesIn("restarts") }

func namesIn(folder string) ([]string, error) {
	files, err := fs.Glob(trails, folder+"/*.txt")
	for i, f := range files {
		files[i] = strings.TrimSuffix(path.Base(f), ".txt")
	}
	return files, err
}

// Read reads one trail of the model of leases, epochs and rounds.
func Read(name string) (Trail, error) { return readFrom("trails", name) }

// ReadRestart reads one trail of the model of restarts.
func ReadRestart(name string) (Trail, error) { return readFrom("restarts", name) }

func readFrom(folder, name string) (Trail, error) {
	text, err := trails.ReadFile(folder + "/" + name + ".txt")
	if err != nil {
		return Trail{}, err
	}
	t, err := parse(string(text))
	if err != nil {
		return Trail{}, fmt.Errorf("trail %s: %w", name, err)
	}
	t.Name = name
	return t, nil
}

// parse reads a trail as .ci/model-check writes it: what it is about behind a hash, a step
// on each line, what refuses the step and what it violates indented below it.
func parse(text string) (t Trail, err error) {
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		fields := strings.Fields(line)
		switch {
		case i == 0:
			if t.What, err = cutPrefix(line, "# "); err != nil {
				return t, err
			}
		case line == "reached":
			t.Reached = true
		case len(fields) == 2 && strings.HasPrefix(line, "  ") && len(t.Steps) > 0:
			last := &t.Steps[len(t.Steps)-1]
			switch fields[0] {
			case "refused-by":
				last.RefusedBy = append(last.RefusedBy, fields[1])
			case "violates":
				last.Violates = append(last.Violates, fields[1])
			default:
				return t, fmt.Errorf("line %d: %q", i+1, line)
			}
		case len(fields) > 0 && line[0] != ' ':
			step, err := parseStep(fields)
			if err != nil {
				return t, fmt.Errorf("line %d: %w", i+1, err)
			}
			t.Steps = append(t.Steps, step)
		default:
			return t, fmt.Errorf("line %d: %q", i+1, line)
		}
	}
	return t, nil
}

func parseStep(fields []string) (Step, error) {
	s := Step{Verb: fields[0], args: map[string]string{}}
	for _, f := range fields[1:] {
		name, value, ok := strings.Cut(f, "=")
		if !ok || name == "" || value == "" || s.args[name] != "" {
			return s, fmt.Errorf("argument %q", f)
		}
		s.args[name] = value
	}
	return s, nil
}

func cutPrefix(s, prefix string) (string, error) {
	rest, ok := strings.CutPrefix(s, prefix)
	if !ok {
		return "", fmt.Errorf("%q does not begin with %q", s, prefix)
	}
	return rest, nil
}

// String is the step's verb and arguments, sorted by name.
func (s Step) String() string {
	text := s.Verb
	for _, name := range slices.Sorted(maps.Keys(s.args)) {
		text += " " + name + "=" + s.args[name]
	}
	return text
}
