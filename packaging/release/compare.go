package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// compareTrees compares the files below two directories byte for byte and returns how many
// there are. Every difference is named.
func compareTrees(a, b string) (int, error) {
	names := map[string]int{}
	for i, root := range []string{a, b} {
		err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			rel, err := filepath.Rel(root, name)
			names[rel] |= 1 << i
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	var bad error
	for name, in := range names {
		if in != 3 {
			bad = errors.Join(bad, fmt.Errorf("%s was made by one build only", name))
		} else if err := compareFiles(filepath.Join(a, name), filepath.Join(b, name)); err != nil {
			bad = errors.Join(bad, fmt.Errorf("%s: %w", name, err))
		}
	}
	if len(names) == 0 {
		bad = errors.New("the builds made no files")
	}
	return len(names), bad
}

func compareFiles(a, b string) error {
	first, err := os.ReadFile(a)
	if err != nil {
		return err
	}
	second, err := os.ReadFile(b)
	if err != nil {
		return err
	}
	if bytes.Equal(first, second) {
		return nil
	}
	at := 0
	for at < min(len(first), len(second)) && first[at] == second[at] {
		at++
	}
	return fmt.Errorf("got %d and %d bytes, which differ from byte %d on", len(first), len(second), at)
}
