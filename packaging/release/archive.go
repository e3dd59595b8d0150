package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// entry is one file of an archive.
type entry struct {
	name string
	data []byte
	mode fs.FileMode
}

// assemble writes a target's archive, its list of contents and, with a packer, its packages.
func (r *release) assemble(ctx context.Context, tree, made string, b *built, extra *packer) error {
	base := "anchorhold-" + r.version + "-" + b.target.String()
	bom, err := r.bom(b)
	if err != nil {
		return err
	}
	notices, err := b.notices()
	if err != nil {
		return err
	}
	entries := []entry{{"sbom.cdx.json", bom, 0o644}, {"THIRD-PARTY-NOTICES.txt", notices, 0o644}}
	for _, p := range b.programs {
		data, err := os.ReadFile(p.file)
		if err != nil {
			return err
		}
		entries = append(entries, entry{"bin/" + p.name, data, 0o755})
	}
	fromTree, err := r.shipped(tree)
	if err != nil {
		return err
	}
	entries = append(entries, fromTree...)
	if extra != nil {
		entries = append(entries, extra.pages...)
		if err := extra.pack(ctx, r, b.target, entries, made); err != nil {
			return err
		}
	}
	archive, err := pack(base, r.when, entries)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(made, base+".tar.gz"), archive, 0o644),
		os.WriteFile(filepath.Join(made, base+".cdx.json"), bom, 0o644))
}

// shipped reads the files of the tree that an archive holds beside the programs.
func (c contents) shipped(tree string) (list []entry, err error) {
	for _, pattern := range c.files {
		names, err := filepath.Glob(filepath.Join(tree, filepath.FromSlash(pattern)))
		if err != nil {
			return nil, err
		}
		if len(names) == 0 {
			return nil, fmt.Errorf("no file in the tree matches %s", pattern)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			rel, err := filepath.Rel(tree, name)
			if err != nil {
				return nil, err
			}
			list = append(list, entry{filepath.ToSlash(rel), data, 0o644})
		}
	}
	return list, nil
}

// pack makes a compressed tar archive that depends on its files' names, modes and bytes and on
// the commit's time, and on nothing else.
func pack(base string, when time.Time, entries []entry) ([]byte, error) {
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	var out bytes.Buffer
	zipped, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(zipped)
	var last string
	for i, e := range entries {
		if i > 0 && e.name == last {
			return nil, fmt.Errorf("%s is in the archive twice", e.name)
		}
		last = e.name
		h := &tar.Header{Typeflag: tar.TypeReg, Name: path.Join(base, e.name), Size: int64(len(e.data)), Mode: int64(e.mode), ModTime: when, Format: tar.FormatUSTAR}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(w.Close(), zipped.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// copyTree copies the files of a directory into a new one, which appears whole or not at all.
func copyTree(from, to string) error {
	next, err := os.MkdirTemp(filepath.Dir(filepath.Clean(to)), ".release-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(next)
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := copyFile(filepath.Join(from, e.Name()), filepath.Join(next, e.Name())); err != nil {
			return err
		}
	}
	if err := os.Chmod(next, 0o755); err != nil {
		return err
	}
	return os.Rename(next, to)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() // read only
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}
